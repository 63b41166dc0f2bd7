package main

import "context"

func (p *program) session(ctx context.Context) error { return errNobody }
