use super::TextStream;

struct Case {
    name: &'static str,
    stop: &'static [&'static str],
    /// Bytes of each token.
    tokens: &'static [&'static [u8]],
    pieces: &'static [&'static str],
    stopped: bool,
}

const CASES: &[Case] = &[
    Case { name: "plain", stop: &[], tokens: &[b"Hel", b"lo"], pieces: &["Hel", "lo"], stopped: false },
    Case {
        name: "a character over two tokens",
        stop: &[],
        tokens: &[b"a\xF0\x9F", b"\x99\x82b"],
        pieces: &["a", "\u{1F642}b"],
        stopped: false,
    },
    Case {
        name: "a character that never ends",
        stop: &[],
        tokens: &[b"a", b"\xF0\x9F"],
        pieces: &["a", "\u{FFFD}"],
        stopped: false,
    },
    Case {
        name: "a byte that fits nowhere",
        stop: &[],
        tokens: &[b"a\xFFb"],
        pieces: &["a\u{FFFD}b"],
        stopped: false,
    },
    Case {
        name: "a stop string inside a token",
        stop: &["END"],
        tokens: &[b"one ENDtwo", b"three"],
        pieces: &["one "],
        stopped: true,
    },
    Case {
        name: "a stop string over three tokens",
        stop: &["\n\nUser:"],
        tokens: &[b"yes\n", b"\nUs", b"er: no"],
        pieces: &["yes"],
        stopped: true,
    },
    Case {
        name: "what looked like a stop string",
        stop: &["\n\nUser:"],
        tokens: &[b"yes\n", b"\nUs", b"a"],
        pieces: &["yes", "\n\nUsa"],
        stopped: false,
    },
    Case {
        name: "held back to the end",
        stop: &["END"],
        tokens: &[b"the E", b"N"],
        pieces: &["the ", "EN"],
        stopped: false,
    },
    Case {
        name: "the first of two stop strings",
        stop: &["ccc", "b"],
        tokens: &[b"abccc"],
        pieces: &["a"],
        stopped: true,
    },
    Case {
        name: "a stop string at the very beginning",
        stop: &["x"],
        tokens: &[b"x"],
        pieces: &[],
        stopped: true,
    },
    Case {
        name: "a stop string of characters of several bytes",
        stop: &["\u{1F642}\u{1F642}"],
        tokens: &[b"a\xF0\x9F\x99\x82", b"\xF0\x9F", b"\x99\x82"],
        pieces: &["a"],
        stopped: true,
    },
];

#[test]
fn pieces_are_whole_characters_and_hold_no_stop_string() {
    for case in CASES {
        let mut stream = TextStream::new(case.stop.iter().map(|stop| (*stop).to_owned()).collect());
        let mut pieces: Vec<String> = case.tokens.iter().filter_map(|bytes| stream.push(bytes)).collect();
        pieces.extend(stream.finish());
        assert_eq!(pieces, case.pieces, "{}", case.name);
        assert_eq!(stream.is_stopped(), case.stopped, "{}", case.name);
        assert_eq!(stream.into_text(), pieces.concat(), "{}", case.name);
    }
}
