# The habits, by name. Everything here is one line that works without make, too.
.PHONY: demo test real lint modules
demo: ; go run ./services/tempismo up --demo
test: ; go test work
real: ; scripts/real go test work -run Real -count=1
lint: ; scripts/lint
modules: ; scripts/each-module
