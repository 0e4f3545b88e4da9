//! Real servers, clients and fixtures for tests.
