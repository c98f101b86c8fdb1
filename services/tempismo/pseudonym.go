package main

import (
	"errors"
	"fmt"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/services/ingest"
)

// pseudonymCmd tells the ids by which the topics may know a customer.
type pseudonymCmd struct {
	ID   string        `arg:"" help:"Id of the customer, as senders call him."`
	Keys config.Secret `name:"pseudonym-key" env:"PSEUDONYM_KEY" help:"As ingest has it. A file, as PSEUDONYM_KEY_FILE, does not show it to others on the machine."`
	JSON bool          `help:"Write a JSON object."`
}

// Help is the example.
func (*pseudonymCmd) Help() string {
	return `One line for each key, the newest first. While keys are exchanged a customer is known under one of them (docs/edges.md, Pseudonyms):
tempismo profile, export and erase say of the others that nothing is known. The key stands in PSEUDONYM_KEY, or in the file that
PSEUDONYM_KEY_FILE names.

Example:
  tempismo pseudonym anna@example.com`
}

// Validate checks the arguments.
func (c *pseudonymCmd) Validate() error {
	errs := []error{ingest.ValidatePseudonyms(c.Keys)}
	if c.ID == "" {
		errs = append(errs, errors.New("<id>: is empty: whom is it about?"))
	}
	return errors.Join(errs...)
}

// Run tells.
func (c *pseudonymCmd) Run(t terminal) error {
	if c.Keys == "" {
		return fmt.Errorf("%w: PSEUDONYM_KEY: is not set; without it the topics know customers as senders call them", config.ErrUsage)
	}
	all := ingest.Pseudonyms(c.Keys, c.ID)
	if c.JSON {
		return t.json(map[string][]string{"pseudonyms": all})
	}
	for _, id := range all {
		fmt.Fprintln(t.out, id)
	}
	return nil
}
