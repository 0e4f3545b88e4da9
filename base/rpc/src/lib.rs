//! The traits services meet through, in-process and over mTLS gRPC.
