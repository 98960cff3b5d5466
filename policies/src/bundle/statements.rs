//! Where the statements of a Cedar text begin. Knows comments, strings and semicolons, and nothing else of the language.

/// The line, counted from 1, on which each statement begins, comments before it left out.
pub(super) fn lines(text: &str) -> Vec<usize> {
    let (mut found, mut begun, mut line) = (Vec::new(), false, 1);
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\n' => line += 1,
            b'/' if bytes.peek() == Some(&b'/') => while bytes.next_if(|b| *b != b'\n').is_some() {},
            b';' => begun = false,
            byte if byte.is_ascii_whitespace() => {}
            byte => {
                if !begun {
                    found.push(line);
                    begun = true;
                }
                if byte == b'"' {
                    line += string(&mut bytes);
                }
            }
        }
    }
    found
}

/// Passes the rest of a string. Gives the line ends in it.
fn string(bytes: &mut impl Iterator<Item = u8>) -> usize {
    let mut ends = 0;
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => break,
            b'\\' => drop(bytes.next()),
            b'\n' => ends += 1,
            _ => {}
        }
    }
    ends
}
