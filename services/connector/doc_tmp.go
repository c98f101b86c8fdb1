package connector
