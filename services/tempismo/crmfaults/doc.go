// Package crmfaults lets the connector carry thousands of decisions out through an imitated CRM that fails, in processes of
// their own on Apache Kafka and Redis, and looks at what is left. A tenth of the calls suffers from each kind of fault, the
// connector is killed with -9 while there is work, and Redis is emptied under the decider, from which some of the decisions
// come. What was sent stands in the CRM's ledger, what the connector says of it on send.outcomes.v1, and a checker holds
// the two against the decisions.
//
// It knows nothing of how the connector works but what docs/connectors.md says, and it is no part of the tempismo command:
// scripts/crm-faults and the tests of this package use it. What happens to all other services is package chaos's.
package crmfaults
