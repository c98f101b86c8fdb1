package decider
