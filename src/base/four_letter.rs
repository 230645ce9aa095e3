//! The four-letter words of ZooKeeper's monitoring protocol, which a client sends instead of a
//! connect request.

/// All of them, in alphabetical order (`FourLetterCommands`).
pub const FOUR_LETTER_WORDS: [&str; 18] = [
    "conf", "cons", "crst", "dirs", "dump", "envi", "gtmk", "hash", "isro", "mntr", "ruok", "srst",
    "srvr", "stat", "stmk", "wchc", "wchp", "wchs",
];
