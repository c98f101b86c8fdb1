// Package decision decides whether a deviation is a reason to write to the customer now. Every answer is a Decision with
// a Reason and the list of rules that led to it.
//
// It decides in trigger mode only: there are no requests that wait for their moment. It judges no deviation (package
// deviation does) and carries nothing out (the connector does).
package decision
