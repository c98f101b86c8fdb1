package stream

import "fmt"

// JobPartition returns the job's own partition-scoped state within m.Partition, as the job's Partition codec wrote it, for
// readers that are not the owner. Nil if nothing is stored.
func (m *Meta) JobPartition() ([]byte, error) {
	if len(m.Partition) == 0 {
		return nil, nil
	}
	r := reader{b: m.Partition}
	if v := r.byte(); v != partitionVersion {
		return nil, fmt.Errorf("partition state: version %d is unknown to this binary: start the newer one", v)
	}
	r.byte()
	r.varint()
	r.uvarint()
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		for range 3 {
			r.bytes(r.uvarint())
		}
	}
	if r.bad {
		return nil, fmt.Errorf("partition state: stored bytes are damaged")
	}
	return r.b, nil
}
