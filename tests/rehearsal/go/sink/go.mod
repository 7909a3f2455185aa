module bundle-rehearsal/sink

go 1.26.0
