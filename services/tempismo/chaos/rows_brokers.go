package chaos

func brokerRows() []Row { return nil }
