package decision

// Audiences counts, for each audience, the customers of the partition and those of them who hold another send in an hour:
// what bounds overlap. It is the decider's partition state.
type Audiences struct{}
