//! Counts the messages of an ONNX file before any of them is made: an empty one takes two bytes of the file, and more
//! than a hundred of memory.

/// Messages and dimensions of a model that are read. The largest models published have some hundred thousand.
pub(super) const MOST: usize = 2_000_000;
/// Messages inside each other; the parser after us goes no deeper.
const DEPTH: usize = 100;

/// Kinds of message, as far as they hold others that are read; see `proto`.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Function,
    Graph,
    Node,
    Attribute,
    Value,
    Type,
    Pair,
    Tensor,
    Shape,
    Leaf,
}

impl Kind {
    /// The kind of the message in a field; none for fields that are skipped or are no message.
    fn inside(self, field: u64) -> Option<Self> {
        Some(match (self, field) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Model, 25) => Self::Function,
            (Self::Function, 7) | (Self::Graph, 1) => Self::Node,
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) => Self::Leaf,
            (Self::Graph, 11 | 12) => Self::Value,
            (Self::Node, 5) => Self::Attribute,
            (Self::Value, 2) => Self::Type,
            (Self::Type, 1) => Self::Tensor,
            (Self::Type, 4 | 5) => Self::Pair,
            (Self::Pair, 1 | 2) => Self::Type,
            (Self::Tensor, 2) => Self::Shape,
            (Self::Shape, 1) => Self::Leaf,
            _ => return None,
        })
    }
}

/// What stands in a file that is not read further.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is no message.
    Malformed,
    /// It has more than [`MOST`] messages.
    TooMany,
}

/// Counts the messages of a model. Takes O(bytes) at most, and no memory.
pub(super) fn check(data: &[u8]) -> Result<(), Refused> {
    let mut left = MOST;
    message(data, Kind::Model, 0, &mut left)
}

fn message(mut data: &[u8], kind: Kind, depth: usize, left: &mut usize) -> Result<(), Refused> {
    if depth > DEPTH {
        return Err(Refused::Malformed);
    }
    while !data.is_empty() {
        let key = varint(&mut data)?;
        let content = match key & 7 {
            0 => {
                varint(&mut data)?;
                &[][..]
            }
            1 => take(&mut data, 8)?,
            2 => {
                let length = usize::try_from(varint(&mut data)?).map_err(|_| Refused::Malformed)?;
                take(&mut data, length)?
            }
            5 => take(&mut data, 4)?,
            _ => return Err(Refused::Malformed),
        };
        let field = key >> 3;
        if let Some(inner) = kind.inside(field).filter(|_| key & 7 == 2) {
            spend(left, 1)?;
            message(content, inner, depth + 1, left)?;
        } else if matches!(kind, Kind::Leaf) && field == 1 {
            // A tensor's dimensions, each of a byte at least.
            spend(left, content.len().max(1))?;
        }
    }
    Ok(())
}

fn spend(left: &mut usize, count: usize) -> Result<(), Refused> {
    *left = left.checked_sub(count).ok_or(Refused::TooMany)?;
    Ok(())
}

fn take<'a>(data: &mut &'a [u8], length: usize) -> Result<&'a [u8], Refused> {
    let (taken, rest) = data.split_at_checked(length).ok_or(Refused::Malformed)?;
    *data = rest;
    Ok(taken)
}

fn varint(data: &mut &[u8]) -> Result<u64, Refused> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take(data, 1)?.first().copied().ok_or(Refused::Malformed)?;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Ok(value);
        }
    }
    Err(Refused::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::tests::tiny;

    #[test]
    fn models_are_counted_and_bombs_are_refused() {
        check(&tiny(&[-1, 4])).unwrap();
        // A graph of empty nodes, two bytes each.
        let bomb = |count: usize| {
            let nodes = [0x0a, 0].repeat(count);
            let mut length = Vec::new();
            prost::encoding::encode_varint(nodes.len() as u64, &mut length);
            [&[0x3a][..], &length, &nodes].concat()
        };
        assert_eq!(check(&bomb(MOST - 1)), Ok(()));
        assert_eq!(check(&bomb(MOST)), Err(Refused::TooMany));
        for bad in [&[0x3a, 5][..], &[0x3b], &[0xff; 11], &[0x3d, 1]] {
            assert_eq!(check(bad), Err(Refused::Malformed), "{bad:?}");
        }
    }
}
