package main

import "context"

func (b *bench) runScale(context.Context) error { return nil }
