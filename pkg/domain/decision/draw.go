package decision

import "hash/fnv"

// draw is a number that looks drawn at random and is the same for the same words for ever: 64 bits of FNV-1a over the words,
// each closed by a zero byte, mixed by the finalizer of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom
// number generators", OOPSLA 2014), since FNV leaves the high bits of short words nearly alike.
func draw(words ...string) uint64 {
	h := fnv.New64a()
	for _, w := range words {
		h.Write([]byte(w))
		h.Write([]byte{0})
	}
	return mix(h.Sum64())
}

func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below reports whether a draw falls into a share.
func below(drawn uint64, share float64) bool { return float64(drawn>>11)/(1<<53) < share }
