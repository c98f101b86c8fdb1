package ingest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/tempismo/tempismo/pkg/topics"
)

// asyncapi.yaml is checked here, beside openapi.yaml: channels, writers and readers are those of the one declaration of
// topics, every reference leads somewhere, and every schema it names exists.
func TestAsyncAPIIsTheDeclarationOfTopics(t *testing.T) {
	const folder = "../../schemas"
	b, err := os.ReadFile(filepath.Join(folder, "asyncapi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := yaml.Unmarshal(b, &tree); err != nil {
		t.Fatal(err)
	}
	var doc struct {
		AsyncAPI   string `yaml:"asyncapi"`
		Channels   map[string]struct{ Address string }
		Operations map[string]struct {
			Action  string
			Channel struct {
				Ref string `yaml:"$ref"`
			}
		}
		Components struct {
			Messages map[string]struct {
				Payload struct {
					Schema struct {
						Ref string `yaml:"$ref"`
					}
				}
			}
		}
	}
	if err := yaml.Unmarshal(b, &doc); err != nil || !strings.HasPrefix(doc.AsyncAPI, "3.") {
		t.Fatalf("version %q, %v", doc.AsyncAPI, err)
	}

	var walk func(path string, node any)
	walk = func(path string, node any) {
		switch node := node.(type) {
		case map[string]any:
			if ref, ok := node["$ref"].(string); ok {
				if file, local := strings.CutPrefix(ref, "./"); local {
					if _, err := os.Stat(filepath.Join(folder, file)); err != nil {
						t.Errorf("%s: %v", path, err)
					}
					return
				}
				var at any = tree
				for step := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
					m, _ := at.(map[string]any)
					at = m[step]
				}
				if at == nil {
					t.Errorf("%s: %s leads nowhere", path, ref)
				}
			}
			for key, child := range node {
				walk(path+"/"+key, child)
			}
		case []any:
			for _, child := range node {
				walk(path+"/[]", child)
			}
		}
	}
	walk("", tree)

	channels := map[string]string{} // key by address
	for key, c := range doc.Channels {
		channels[c.Address] = key
		if ref := doc.Components.Messages[key].Payload.Schema.Ref; ref != "./"+c.Address+".json" {
			t.Errorf("the message of %s has schema %q", c.Address, ref)
		}
	}
	operations := 0
	for _, topic := range topics.All {
		key, ok := channels[topic.Name]
		if !ok {
			t.Errorf("%s is no channel", topic.Name)
			continue
		}
		var send, receive []string
		for name, o := range doc.Operations {
			if o.Channel.Ref != "#/channels/"+key {
				continue
			}
			operations++
			switch o.Action {
			case "send":
				send = append(send, name)
			case "receive":
				receive = append(receive, name)
			}
		}
		if want := operationNames(topic.Writers, "Writes", key); !slices.Equal(slices.Sorted(slices.Values(send)), want) {
			t.Errorf("%s is sent to by %v, want %v", topic.Name, send, want)
		}
		if want := operationNames(topic.Readers, "Reads", key); !slices.Equal(slices.Sorted(slices.Values(receive)), want) {
			t.Errorf("%s is received by %v, want %v", topic.Name, receive, want)
		}
	}
	if len(doc.Channels) != len(topics.All) || operations != len(doc.Operations) {
		t.Errorf("%d channels for %d topics, %d operations of which %d belong to one", len(doc.Channels), len(topics.All), len(doc.Operations), operations)
	}
}

// operationNames says how the operations of who on a channel are called, sorted.
func operationNames(who []string, verb, key string) []string {
	var names []string
	for _, w := range who {
		verb := verb
		if strings.HasSuffix(w, "s") { // others, alert consumers: more than one
			verb = strings.TrimSuffix(verb, "s")
		}
		words := strings.Fields(w)
		for i, word := range words[1:] {
			words[i+1] = strings.ToUpper(word[:1]) + word[1:]
		}
		names = append(names, strings.Join(words, "")+verb+strings.ToUpper(key[:1])+key[1:])
	}
	slices.Sort(names)
	return names
}
