package main

import (
	"encoding/json"
	"reflect"
	"strings"
	"time"
	"unicode"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// units says what numbers of the states are times, by package, type and field. What is missing here is exported as a number.
var units = map[string]string{
	"timing.Profile.erased": "ms", "timing.Pixel.At": "ms",
	"timing.State.head":     "hour", "timing.State.last": "hour", "timing.State.first": "day",
	"timing.send.second": "s", "timing.click.second": "s",
	"deviation.Memory.burst": "s", "deviation.Memory.acting": "s", "deviation.Memory.reactivation": "s",
	"deviation.Memory.timing": "s", "deviation.Memory.drift": "s", "deviation.Memory.last": "s",
	"decision.pending.notBefore": "ms", "decision.pending.deadline": "ms", "decision.pending.due": "ms",
	"decision.plan.at": "ms", "decision.plan.from": "ms", "decision.plan.to": "ms", "decision.plan.bestAt": "ms", "decision.plan.hour": "hour",
	"decision.sent.at": "ms", "decision.sent.hour": "hour",
	"decision.ended.until": "ms", "decision.answer.at": "ms", "decision.member.until": "day",
}

// legible turns the state that v points at into what can be written as JSON: every field that is set, under its name, the hidden
// ones too. It goes by the fields that there are, so that one that is added is exported without a word here.
func legible(v any) any { return legibleOf(reflect.ValueOf(v).Elem()) }

func legibleOf(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Struct:
		m := map[string]any{}
		fieldsInto(m, v)
		return m
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			if b := v.Bytes(); json.Valid(b) {
				return json.RawMessage(b)
			}
			return v.Bytes()
		}
		fallthrough
	case reflect.Array:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = legibleOf(v.Index(i))
		}
		return list
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return legibleOf(v.Elem())
	case reflect.String:
		return v.String()
	case reflect.Bool:
		return v.Bool()
	case reflect.Float32, reflect.Float64:
		return v.Float()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return v.Int()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return v.Uint()
	}
	return v.String() // of another kind it names the type, so that it is seen that something is missing
}

// fieldsInto adds the fields of a struct that are set. Those of embedded structs stand beside the others.
func fieldsInto(m map[string]any, v reflect.Value) {
	for i := range v.NumField() {
		f, field := v.Type().Field(i), v.Field(i)
		switch {
		case f.Anonymous && field.Kind() == reflect.Struct:
			fieldsInto(m, field)
		case field.IsZero():
		case f.Type.String() == "timing.hours":
			m[snake(f.Name)] = hotHours(v, field)
		default:
			m[snake(f.Name)] = unit(v.Type().String()+"."+f.Name, field)
		}
	}
}

// unit is a field's value, as a time where it is known to be one.
func unit(name string, v reflect.Value) any {
	switch units[name] {
	case "ms":
		return time.UnixMilli(v.Int()).UTC()
	case "s":
		return time.Unix(v.Int(), 0).UTC()
	case "hour":
		return localHour(v.Int())
	case "day":
		return time.Unix(v.Int()*86400, 0).UTC().Format(time.DateOnly)
	}
	return legibleOf(v)
}

// hotHours lists the local hours of a set that a timing.State keeps: a bit for each of the last hours, by the hour modulo their
// number, up to the latest that is known.
func hotHours(state, set reflect.Value) []string {
	var list []string
	head := state.FieldByName("head").Int()
	for h := head - timing.Memory + 1; h <= head; h++ {
		i := ((h % timing.Memory) + timing.Memory) % timing.Memory
		if set.Index(int(i>>6)).Uint()>>(i&63)&1 != 0 {
			list = append(list, localHour(h))
		}
	}
	return list
}

// snake writes a Go name as JSON has it.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) {
			if i > 0 {
				b.WriteByte('_')
			}
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return b.String()
}
