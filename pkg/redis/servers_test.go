package redis

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// ours skips where no processes of ours are wanted, and finds redis-server.
func ours(t *testing.T) string {
	t.Helper()
	if os.Getenv("TEMPISMO_REAL") == "" {
		t.Skip("starts redis-server: run it with scripts/real")
	}
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("needs redis-server in the PATH")
	}
	return path
}

// freePorts are ports that were free just now.
func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		ports = append(ports, ln.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// process is a redis-server of a test.
type process struct {
	addr string
	args []string
	cmd  *exec.Cmd
	gone chan struct{}
}

// kill ends it as kill -9 does.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.gone
}

// serve starts a redis-server on a port and waits until it listens.
func serve(t *testing.T, port int, args ...string) *process {
	t.Helper()
	p := &process{addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	p.args = append([]string{"--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "", "--appendonly", "no"}, args...)
	p.start(t)
	t.Cleanup(func() { p.kill() })
	return p
}

// start starts it, again after a kill, and waits until it listens.
func (p *process) start(t *testing.T) {
	t.Helper()
	var said bytes.Buffer
	cmd, gone := exec.Command(ours(t), p.args...), make(chan struct{})
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		cmd.Wait()
		close(gone)
	}()
	p.cmd, p.gone = cmd, gone
	wait(t, "redis-server at "+p.addr, func() bool {
		select {
		case <-gone:
			t.Fatalf("redis-server ended: %s", said.String())
		default:
		}
		c, err := net.Dial("tcp", p.addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// wait waits until something is so, for a minute at most.
func wait(t *testing.T, what string, so func() bool) {
	t.Helper()
	for range 1200 {
		if so() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("waited in vain: %s", what)
}

// trio is a Redis Cluster of three primaries, and replicas of them.
type trio struct {
	servers []*process
	admin   []*goredis.Client // of each
	ids     []string
}

// startCluster starts three primaries, which share the slots, and so many replicas, each of another primary.
func startCluster(t *testing.T, replicas int) *trio {
	t.Helper()
	return startClusterWith(t, replicas, func(port int) []string { return []string{"--port", strconv.Itoa(port)} }, func(*goredis.Options) {})
}

// startClusterWith gives the servers other settings, among them the port, and their clients, too.
func startClusterWith(t *testing.T, replicas int, settings func(port int) []string, client func(*goredis.Options)) *trio {
	t.Helper()
	ours(t)
	c, ctx := &trio{}, context.Background()
	n := 3 + replicas
	ports := freePorts(t, 2*n)
	for i := range n {
		p := serve(t, ports[i], append(settings(ports[i]), "--cluster-port", strconv.Itoa(ports[n+i]), "--cluster-enabled", "yes",
			"--cluster-node-timeout", "1000", "--cluster-config-file", "nodes.conf", "--repl-diskless-sync-delay", "0")...)
		options := &goredis.Options{Addr: p.addr}
		client(options)
		r := goredis.NewClient(options)
		t.Cleanup(func() { r.Close() })
		id, err := r.Do(ctx, "cluster", "myid").Text()
		if err != nil {
			t.Fatal(err)
		}
		c.servers, c.admin, c.ids = append(c.servers, p), append(c.admin, r), append(c.ids, id)
		if i > 0 {
			c.do(t, 0, "cluster", "meet", "127.0.0.1", ports[i], ports[n+i])
		}
	}
	for i, slots := range [][2]int{{0, 5460}, {5461, 10922}, {10923, 16383}} {
		c.do(t, i, "cluster", "addslotsrange", slots[0], slots[1])
	}
	for i := range n {
		wait(t, "every node knows the others", func() bool {
			nodes, err := c.admin[i].ClusterNodes(ctx).Result()
			return err == nil && strings.Count(nodes, " connected") == n && !strings.Contains(nodes, "handshake")
		})
	}
	for i := range replicas {
		c.do(t, 3+i, "cluster", "replicate", c.ids[i])
	}
	for i := range n {
		wait(t, "the cluster is whole", func() bool {
			info, err := c.admin[i].ClusterInfo(ctx).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok")
		})
	}
	for i := range replicas {
		wait(t, "the replica follows", func() bool {
			return strings.Contains(c.admin[3+i].Info(ctx, "replication").Val(), "master_link_status:up")
		})
	}
	return c
}

func (c *trio) do(t *testing.T, server int, args ...any) any {
	t.Helper()
	v, err := c.admin[server].Do(context.Background(), args...).Result()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return v
}

// addrs names the nodes as an operator does.
func (c *trio) addrs() string {
	var all []string
	for _, p := range c.servers {
		all = append(all, p.addr)
	}
	return strings.Join(all, ",")
}

// owns reports whether a server is the primary of a slot by its own word.
func (c *trio) owns(t *testing.T, server, slot int) bool {
	t.Helper()
	shards, err := c.admin[server].ClusterShards(context.Background()).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, shard := range shards {
		for _, r := range shard.Slots {
			if int64(slot) < r.Start || int64(slot) > r.End {
				continue
			}
			for _, n := range shard.Nodes {
				if n.ID == c.ids[server] {
					return n.Role == "master"
				}
			}
		}
	}
	return false
}

// owner is the server that is the primary of a slot, of the three that were primaries at first. After a move it can take a
// moment of gossip until one of them says so.
func (c *trio) owner(t *testing.T, slot int) int {
	t.Helper()
	owner := -1
	wait(t, fmt.Sprintf("one of the three has slot %d", slot), func() bool {
		for i := range 3 {
			if c.owns(t, i, slot) {
				owner = i
			}
		}
		return owner >= 0
	})
	return owner
}

// move brings a slot to another primary, key by key, as redis-cli --cluster reshard does; between is called when half of its
// keys have moved.
func (c *trio) move(t *testing.T, slot, to int, between func()) {
	t.Helper()
	from := c.owner(t, slot)
	if from == to {
		between()
		return
	}
	c.do(t, to, "cluster", "setslot", slot, "importing", c.ids[from])
	c.do(t, from, "cluster", "setslot", slot, "migrating", c.ids[to])
	host, port, err := net.SplitHostPort(c.servers[to].addr)
	if err != nil {
		t.Fatal(err)
	}
	names, ok := c.do(t, from, "cluster", "getkeysinslot", slot, 1000).([]any)
	if !ok {
		t.Fatal("getkeysinslot answered no list")
	}
	for i, name := range names {
		if i == len(names)/2 {
			between()
		}
		c.do(t, from, "migrate", host, port, name, 0, 10_000)
	}
	c.do(t, to, "cluster", "setslot", slot, "node", c.ids[to])
	for i := range 3 {
		if i != to {
			c.do(t, i, "cluster", "setslot", slot, "node", c.ids[to])
		}
	}
	// Whoever moves the next slot before all agree gets epochs that collide, and slots that nobody has. Tools for operators
	// check the same before they begin.
	wait(t, "all agree on who has the slot, and on who came last", func() bool {
		epochs := map[string]bool{}
		for i := range 3 {
			info := c.do(t, i, "cluster", "info").(string)
			_, epoch, _ := strings.Cut(info, "cluster_current_epoch:")
			epoch, _, _ = strings.Cut(epoch, "\r")
			epochs[epoch] = true
			if shards := c.do(t, i, "cluster", "slots"); !c.has(shards, slot, to) {
				return false
			}
		}
		return len(epochs) == 1
	})
}

// has reports whether an answer to cluster slots names a server as the primary of a slot.
func (c *trio) has(answer any, slot, server int) bool {
	ranges, _ := answer.([]any)
	for _, r := range ranges {
		f, _ := r.([]any)
		if len(f) < 3 || int64(slot) < f[0].(int64) || int64(slot) > f[1].(int64) {
			continue
		}
		node, _ := f[2].([]any)
		return len(node) > 2 && node[2] == c.ids[server]
	}
	return false
}
