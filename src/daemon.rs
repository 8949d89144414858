//! Assembly: start and stop order, pid file, lock file, signals, readiness.
