// Package topics declares every topic of Tempismo: its name, kind, retention, who writes it and who reads it.
//
// It is the one declaration from which the Kafka adapter creates topics and the documentation takes its table. It is not
// a client: it knows no broker, and no record format (those are in schemas/ and in the domain packages).
package topics

import "time"

// Names of the topics, as they stand on the wire in a live run. A simulated run prefixes them (stream.Run.Topic).
const (
	Events     = "engagement.events.v1"
	Attributes = "customer.attributes.v1"
	Consents   = "customer.consents.v1"
	Erasures   = "customer.erasures.v1"
	Scored     = "engagement.scored.v1"
	Digests    = "timing.digests.v1"
	Deviations = "timing.deviations.v1"
	Models     = "timing.models.v1"
	Policies   = "send.policies.v1"
	Requests   = "send.requests.v1"
	Ticks      = "send.ticks.v1"
	Decisions  = "send.decisions.v1"
	Outcomes   = "send.outcomes.v1"
)

// DeadLetter names the topic that holds what a reader of topic could not read, byte for byte. That of Events also holds what
// providers' webhooks told ingest and could not be made an event, which comes from no topic, so that its headers name none; and
// what could not be made one of records on topics of others.
func DeadLetter(topic string) string { return topic + ".dlq" }

// Kind says how records of a topic relate to each other.
type Kind string

// Kinds of topics.
const (
	Log       Kind = "log"       // every record stands for itself
	Table     Kind = "table"     // the last record of a key is what is true of it; earlier ones are compacted away
	Broadcast Kind = "broadcast" // each version is written into every partition
)

// Topic is one declaration.
type Topic struct {
	Name      string
	Kind      Kind
	Retention time.Duration // of a Table 0: its last records are kept for ever
	Writers   []string
	Readers   []string
	DLQ       bool // whether LetterWriters may set records aside in DeadLetter(Name)
}

const day = 24 * time.Hour

// All lists the topics in the order of the flow.
var All = []Topic{
	{Events, Log, 400 * day, []string{"ingest"}, []string{"profiler", "trainer", "connector"}, true},
	{Attributes, Table, 0, []string{"ingest", "others"}, []string{"profiler", "decider", "connector", "trainer"}, true},
	{Consents, Log, 3650 * day, []string{"ingest", "profiler", "others"}, []string{"profiler", "decider", "connector", "trainer"}, true},
	{Erasures, Log, 3650 * day, []string{"ingest", "profiler", "tempismo erase"}, []string{"profiler", "detector", "decider", "connector", "trainer"}, true},
	{Scored, Log, 30 * day, []string{"profiler"}, []string{"detector"}, true},
	{Digests, Log, 400 * day, []string{"profiler"}, []string{"console", "trainer"}, false},
	{Deviations, Log, 90 * day, []string{"detector"}, []string{"decider", "console", "alert consumers"}, true},
	{Models, Broadcast, 400 * day, []string{"trainer"}, []string{"profiler", "detector", "decider", "console"}, true},
	{Policies, Broadcast, 3650 * day, []string{"tempismo policy apply"}, []string{"decider", "console", "connector"}, true},
	{Requests, Log, 90 * day, []string{"ingest", "marketing automation"}, []string{"decider"}, true},
	{Ticks, Log, 90 * day, []string{"decider"}, []string{"decider"}, true},
	{Decisions, Log, 400 * day, []string{"decider"}, []string{"connector", "console"}, true},
	{Outcomes, Log, 400 * day, []string{"connector"}, []string{"decider", "console", "connector"}, true},
}

// LetterWriters are those who may set something aside in DeadLetter(t.Name).
func (t Topic) LetterWriters() []string {
	if t.Name == Events {
		return append([]string{"ingest"}, t.Readers...)
	}
	return t.Readers
}

// DeadLetterRetention is how long set-aside records are kept.
const DeadLetterRetention = 30 * day
