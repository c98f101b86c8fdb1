package main

import "context"

type upCmd struct{}
func (*upCmd) Run(ctx context.Context) error { return nil }
type replayCmd struct{}
func (*replayCmd) Run(ctx context.Context) error { return nil }
type doctorCmd struct{}
func (*doctorCmd) Run(ctx context.Context) error { return nil }
