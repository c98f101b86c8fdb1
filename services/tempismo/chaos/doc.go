// Package chaos breaks Tempismo on purpose and looks at what is left: real service processes on Apache Kafka and Redis,
// under load, with the faults of the fault matrix injected at seeded random moments. Every acknowledged id stands in a
// ledger, and a checker that believes no service recomputes from the topics what must have come out.
//
// One run is one injection. A round is one Rig: it starts everything, suffers some injections one after the other, drains,
// and is checked as a whole. The invariants are called by the letters of the matrix: L every acknowledged valid event is
// reflected exactly once, P each decision reaches the CRM once, O order per customer, M memory is bounded, R lag recovers,
// N no decision from a partial profile, V the fault is visible.
//
// It is not part of the tempismo command, and nothing of it runs in production: scripts/chaos and the tests of this
// package use it. It measures correctness, not speed.
package chaos
