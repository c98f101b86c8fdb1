package stream_test

import "testing"

// sabotage is a rule that is broken: the simulation must notice.
type sabotage string

const (
	notFenced           sabotage = "nobody looks at the owner's token"
	notCompared         sabotage = "a commit does not compare positions"
	fencedByNothing     sabotage = "neither token nor positions are compared"
	notPublishedAgain   sabotage = "the outbox is not published again"
	acknowledgedEarly   sabotage = "acknowledged before it is published"
	overtaking          sabotage = "outputs overtake each other"
	notFiltered         sabotage = "repeated source positions are not dropped"
	notDeduplicated     sabotage = "the consumer does not deduplicate"
	loadsNotFenced      sabotage = "loads are not fenced"
	neverAsking         sabotage = "an idle owner does not ask the store"
	offsetsNotRead      sabotage = "group offsets are not read at takeover"
	ticksWaitForNothing sabotage = "ticks wait for nothing"
)

// noticed breaks a rule in schedules of a kind until one of them goes wrong.
func noticed(t *testing.T, rule sabotage, name string, seeds uint64) {
	t.Helper()
	k := kindOf(t, name)
	k.sabotage = rule
	for seed := range seeds {
		if wrong, _ := simulate(t, seed, k); wrong != "" {
			t.Logf("seed %d: %s", seed, wrong)
			return
		}
	}
	t.Errorf("not noticed in %d schedules", seeds)
}

func TestSimulationNoticesBrokenRules(t *testing.T) {
	for _, c := range []struct {
		rule  sabotage
		kind  string
		seeds uint64
	}{
		{notFenced, "scribe-haunted-versions", 4000},
		{notCompared, "scribe-trouble", 1000},
		{fencedByNothing, "scribe-trouble", 1000},
		{notPublishedAgain, "scribe-trouble", 100},
		{acknowledgedEarly, "scribe-trouble", 100},
		{overtaking, "scribe-trouble", 100},
		{notFiltered, "scribe-live", 100},
		{notFiltered, "clerk-trouble", 100},
		{notDeduplicated, "scribe-trouble", 100},
		{loadsNotFenced, "scribe-haunted-versions", 4000},
		{neverAsking, "scribe-rolledback", 2000},
		{offsetsNotRead, "scribe-emptied-versions", 1000},
	} {
		t.Run(string(c.rule)+", "+c.kind, func(t *testing.T) { noticed(t, c.rule, c.kind, c.seeds) })
	}
}

func TestTicksMustWait(t *testing.T) { noticed(t, ticksWaitForNothing, "wakes-rolledback", 4000) }
