// Package decision decides when a customer is written to: which hour a request waits for, whether a deviation is a reason to
// write now, and why not. Every answer is a Decision with a Reason and the list of rules that led to it. What it does, for those
// who set the rules, stands in docs/decisions.md.
//
// It is pure: a Moment and a State give the same decisions and the same State for ever. It judges no deviation (package
// deviation does), knows no profile beyond what a Lookup says, and carries nothing out (the connector does).
package decision
