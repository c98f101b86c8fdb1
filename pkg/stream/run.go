package stream

import "strconv"

// Run is one lineage of state: everything a service emits names it, and two runs never see each other's states. A replay
// that is to be seen anew is a new run.
type Run struct {
	ID        string // lower-case letters, digits, hyphens
	Simulated bool   // time is event time, topics and keys have a prefix of their own, and no CRM is called
}

// Topic returns the name on the wire of a declared topic: a simulated run has topics of its own.
func (r Run) Topic(name string) string {
	if r.Simulated {
		return "sim." + r.ID + "." + name
	}
	return name
}

// Base takes the run's prefix off a topic's name on the wire.
func (r Run) Base(topic string) string {
	if p := "sim." + r.ID + "."; r.Simulated && len(topic) > len(p) && topic[:len(p)] == p {
		return topic[len(p):]
	}
	return topic
}

// Group names the consumer group, and with it the state, of a service in this run.
func (r Run) Group(service string) string {
	if r.Simulated {
		return "sim." + r.ID + "." + service
	}
	return "tempismo." + r.ID + "." + service
}

// Source is the CloudEvents source of what a service's Step emits for records of one input partition. topic is the
// declared name, without prefix, so that two runs of one id are comparable byte for byte.
func (r Run) Source(service, topic string, partition int32) string {
	return "/tempismo/" + service + "/" + r.ID + "/" + topic + "/" + strconv.Itoa(int(partition))
}

// Partition is the partition of key among n, as Kafka's default partitioner chooses it: murmur2 with seed 0x9747b28c,
// made positive, modulo n (org.apache.kafka.common.utils.Utils.murmur2).
func Partition(key []byte, n int32) int32 { return int32(murmur2(key)&0x7fffffff) % n }

func murmur2(b []byte) uint32 {
	const m, r = 0x5bd1e995, 24
	h := uint32(0x9747b28c) ^ uint32(len(b))
	for len(b) >= 4 {
		k := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
		k *= m
		k ^= k >> r
		k *= m
		h = h*m ^ k
		b = b[4:]
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(b[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return h
}
