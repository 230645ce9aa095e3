//! Every byte layout that ZooKeeper's peers, clients and files share.
#![forbid(unsafe_code)]
