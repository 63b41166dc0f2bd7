package client

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// maxChallenge bounds how long a server may go on asking.
const maxChallenges = 16

// login authenticates if the options say so (RFC 4954 §4).
func (c *Conn) login() error {
	if c.o.Login == nil {
		return nil
	}
	offered, ok := c.offers["AUTH"]
	if !ok {
		c.Quit()
		return errors.New("the server offers no login")
	}
	mech, err := c.o.Login(strings.Fields(strings.ToUpper(offered)))
	if err != nil {
		c.Quit()
		return err
	}
	name, ir := mech.Start()
	line := "AUTH " + name
	late := false // the first response goes out only when asked for
	switch encoded := base64.StdEncoding.EncodeToString(ir); {
	case ir == nil:
	case len(line)+1+len(encoded)+2 > 512: // §4: the line's limit
		late = true
	case encoded == "":
		line += " ="
	default:
		line += " " + encoded
	}
	r, lines, err := c.command(commandTime, "%s", line)
	for range maxChallenges {
		if err != nil {
			return err
		}
		if r.Code != 334 {
			break
		}
		challenge, derr := base64.StdEncoding.DecodeString(strings.Join(lines, ""))
		response := ir
		if !late && derr == nil {
			response, derr = mech.Next(challenge)
		}
		late = false
		if derr != nil { // cancel, and hear the refusal
			if r, _, err = c.command(commandTime, "*"); err != nil {
				return err
			}
			c.Quit()
			return fmt.Errorf("login: %w", derr)
		}
		r, lines, err = c.command(commandTime, "%s", base64.StdEncoding.EncodeToString(response))
	}
	if err != nil {
		return err
	}
	if r.Code != 235 {
		c.Quit()
		return &ReplyError{"AUTH", r}
	}
	return nil
}
