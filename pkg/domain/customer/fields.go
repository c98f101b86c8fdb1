package customer

import (
	"encoding/json"
	"errors"
	"fmt"
)

// fields are the members of a JSON object that stands at a path of the document. They are read one by one, because errors of
// encoding/json do not name the field in every case.
type fields struct {
	path string
	raw  map[string]json.RawMessage
}

func fieldsOf(path string, data []byte) (fields, error) {
	f := fields{path: path}
	if err := json.Unmarshal(data, &f.raw); err != nil {
		return f, fmt.Errorf("%s: %w", path, plain(err))
	}
	if f.raw == nil {
		return f, fmt.Errorf("%s: is no object", path)
	}
	return f, nil
}

// read reads the member of that name into v, which stays as it is if there is none.
func (f fields) read(name string, v any) error {
	raw, ok := f.raw[name]
	if !ok {
		return nil
	}
	err := json.Unmarshal(raw, v)
	if err == nil {
		return nil
	}
	path := f.path + "." + name
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) && wrong.Field != "" {
		path += "." + wrong.Field
	}
	return fmt.Errorf("%s: %w", path, plain(err))
}

// plain says without Go's own words what is wrong with a value.
func plain(err error) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err
	}
	want := map[string]string{"string": "text", "float64": "a number within range", "bool": "true or false", "slice": "a list", "map": "an object", "struct": "an object"}[wrong.Type.Kind().String()]
	return fmt.Errorf("is %s, want %s", wrong.Value, want)
}

// appendJSON writes v in the form that encoding/json gives it, which is the same for equal values.
func appendJSON(dst []byte, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("customer: " + err.Error()) // what was parsed can be written
	}
	return append(dst, b...)
}
