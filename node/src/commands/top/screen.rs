//! The terminal while it is watched: a screen of its own, drawn over without a blink, and given back at the end.

use std::io::{self, Write as _};

/// Another screen, and no cursor; the first screen as it was, and the cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Home; to the end of the line, and of the screen.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const REST: &str = "\x1b[J";

/// Lines at the end that are always shown: sums, and the node's.
const FOOT: usize = 3;

/// The screen, given back when dropped.
pub(super) struct Screen;

impl Screen {
    pub(super) fn open() -> Self {
        // Where it can't be written to, the first drawing says so.
        let _ = write(ENTER);
        Self
    }

    /// Draws text, as much of it as there is room for.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn draw(&self, text: &str) -> io::Result<()> {
        let size = rustix::termios::tcgetwinsize(io::stdout());
        let (rows, columns) = size.map_or((0, 0), |size| (size.ws_row.into(), size.ws_col.into()));
        write(&frame(text, rows, columns))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = write(LEAVE);
    }
}

/// One picture, written at once: what stood there is written over and not erased first.
fn frame(text: &str, rows: usize, columns: usize) -> String {
    let mut out = String::from(HOME);
    // A terminal that does not know its size says 0.
    let (rows, columns) = (if rows == 0 { 24 } else { rows }, if columns == 0 { 80 } else { columns });
    let all = text.lines().count();
    let (top, foot) = (rows.saturating_sub(FOOT), all.saturating_sub(FOOT));
    let shown = text.lines().enumerate().filter(|(number, _)| all <= rows || *number < top || *number >= foot);
    for (number, (_, line)) in shown.take(rows).enumerate() {
        if number > 0 {
            out.push_str("\r\n");
        }
        out.extend(line.chars().take(columns));
        out.push_str(REST_OF_LINE);
    }
    out.push_str(REST);
    out
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_fits_and_leaves_nothing_of_the_one_before() {
        assert_eq!(frame("abcdef\ngh\n", 2, 4), "\x1b[Habcd\x1b[K\r\ngh\x1b[K\x1b[J");
        let lines = |rows| frame("1\n2\n3\n4\n5\n6\n", rows, 0).replace("\x1b[K", "").replace("\r\n", "");
        assert_eq!(lines(5), "\x1b[H12456\x1b[J", "sums stay");
        assert_eq!((lines(0).len(), lines(2).as_str()), (lines(6).len(), "\x1b[H45\x1b[J"));
    }
}
