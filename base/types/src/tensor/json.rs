//! The JSON form of a tensor's elements: arrays, flat or nested, in row-major order.
//!
//! JSON has no word for values that are no numbers. NaN is written as `null`, infinities as `1e999` and
//! `-1e999`, which Python and browsers read as infinities; read are `null`, and the texts `"NaN"`, `"Infinity"`
//! and `"-Infinity"` of protobuf's JSON form. `BYTES` are strings, so only valid UTF-8 can be written; other
//! bytes need the binary form.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::{Deserializer, Error as _, SeqAccess, Unexpected, Visitor};

use super::{DataType, Error, Tensor, elements, push_element};

/// Reads a tensor from the JSON text of its `data`.
///
/// Takes O(text); allocates the raw bytes once. Nesting may be flat or at most as deep as the shape.
///
/// # Errors
/// When an element does not fit the type, or their number not the shape.
pub fn read(name: &str, datatype: DataType, shape: Vec<i64>, text: &str) -> Result<Tensor, Error> {
    let wrong = |what: String| Error::Json { name: name.to_owned(), what };
    let count = elements(name, &shape)?;
    // The text bounds the reservation: an element takes at least two characters with its comma.
    let reserve = count.min(text.len() / 2 + 1).saturating_mul(datatype.width().unwrap_or(8));
    let mut sink = Sink { datatype, data: BytesMut::with_capacity(reserve), count: 0, limit: count };
    let mut json = serde_json::Deserializer::from_str(text);
    let depth = shape.len().max(1);
    let read = serde::de::DeserializeSeed::deserialize(Level { sink: &mut sink, depth }, &mut json);
    read.and_then(|()| json.end()).map_err(|error| wrong(strip_position(&error)))?;
    if sink.count != count {
        return Err(wrong(format!("shape {shape:?} has {count} elements, data has {}", sink.count)));
    }
    Tensor::new(name, datatype, shape, sink.data.freeze())
}

/// Positions count from the start of `data`, not of the request, and would mislead.
fn strip_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(head, _)| head.to_owned())
}

fn special(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

struct Sink {
    datatype: DataType,
    data: BytesMut,
    count: usize,
    limit: usize,
}

struct Level<'a> {
    sink: &'a mut Sink,
    depth: usize,
}

impl<'de> serde::de::DeserializeSeed<'de> for Level<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} elements", self.sink.datatype)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| A::Error::custom("arrays nest deeper than the shape"))?;
        while seq.next_element_seed(Level { sink: &mut *self.sink, depth })?.is_some() {}
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.sink.admit()?;
        match self.sink.datatype {
            DataType::Bool => self.sink.data.put_u8(u8::from(value)),
            _ => return Err(E::invalid_type(Unexpected::Bool(value), &self)),
        }
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.sink.integer(i128::from(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.sink.integer(i128::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        if self.sink.datatype.is_float() {
            return self.sink.float(value);
        }
        // Some writers print whole numbers as `1.0`.
        if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 {
            return self.sink.integer(value as i128);
        }
        Err(E::invalid_type(Unexpected::Float(value), &self))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        if self.sink.datatype.is_float() {
            return self.sink.float(f64::NAN);
        }
        Err(E::invalid_type(Unexpected::Unit, &self))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        if self.sink.datatype.is_float()
            && let Some(number) = special(value)
        {
            return self.sink.float(number);
        }
        if self.sink.datatype != DataType::Bytes {
            return Err(E::invalid_type(Unexpected::Str(if value.len() > 40 { "a long text" } else { value }), &self));
        }
        self.sink.admit()?;
        push_element(&mut self.sink.data, value.as_bytes());
        Ok(())
    }
}

impl Sink {
    fn admit<E: serde::de::Error>(&mut self) -> Result<(), E> {
        if self.count == self.limit {
            return Err(E::custom(format_args!("data has more than the shape's {} elements", self.limit)));
        }
        self.count += 1;
        Ok(())
    }

    fn integer<E: serde::de::Error>(&mut self, value: i128) -> Result<(), E> {
        if self.datatype.is_float() {
            return self.float(value as f64);
        }
        self.admit()?;
        let index = self.count - 1;
        let range = || E::custom(format_args!("element {index} is {value}, outside {}", self.datatype));
        macro_rules! put {
            ($type:ty) => {{
                let bytes = <$type>::try_from(value).map_err(|_| range())?.to_le_bytes();
                self.data.put_slice(&bytes);
            }};
        }
        match self.datatype {
            DataType::Bool if value == 0 || value == 1 => self.data.put_u8(u8::from(value == 1)),
            DataType::Uint8 => put!(u8),
            DataType::Uint16 => put!(u16),
            DataType::Uint32 => put!(u32),
            DataType::Uint64 => put!(u64),
            DataType::Int8 => put!(i8),
            DataType::Int16 => put!(i16),
            DataType::Int32 => put!(i32),
            DataType::Int64 => put!(i64),
            _ => return Err(E::custom(format_args!("element {index} is the number {value}, not {}", self.datatype))),
        }
        Ok(())
    }

    fn float<E: serde::de::Error>(&mut self, value: f64) -> Result<(), E> {
        self.admit()?;
        let single = value as f32;
        match self.datatype {
            DataType::Fp16 => self.data.put_slice(&half::f16::from_f64(value).to_le_bytes()),
            DataType::Bf16 => self.data.put_slice(&half::bf16::from_f64(value).to_le_bytes()),
            DataType::Fp32 => self.data.put_f32_le(single),
            _ => self.data.put_f64_le(value),
        }
        Ok(())
    }
}

/// Appends the tensor's elements as one flat JSON array.
///
/// # Errors
/// When a `BYTES` element is not UTF-8.
pub fn write(tensor: &Tensor, out: &mut Vec<u8>) -> Result<(), Error> {
    let data: &Bytes = tensor.data();
    out.push(b'[');
    let start = out.len();
    macro_rules! numbers {
        ($type:ty) => {
            for chunk in data.chunks_exact(size_of::<$type>()) {
                comma(out, start);
                put(out, &chunk.try_into().map_or_else(|_| Default::default(), <$type>::from_le_bytes));
            }
        };
    }
    match tensor.datatype() {
        DataType::Bool => data.iter().for_each(|byte| {
            comma(out, start);
            out.extend_from_slice(if *byte == 0 { b"false" } else { b"true" });
        }),
        DataType::Uint8 => numbers!(u8),
        DataType::Uint16 => numbers!(u16),
        DataType::Uint32 => numbers!(u32),
        DataType::Uint64 => numbers!(u64),
        DataType::Int8 => numbers!(i8),
        DataType::Int16 => numbers!(i16),
        DataType::Int32 => numbers!(i32),
        DataType::Int64 => numbers!(i64),
        DataType::Fp32 => {
            for chunk in data.chunks_exact(4) {
                comma(out, start);
                let value = chunk.try_into().map_or(0.0, f32::from_le_bytes);
                if value.is_finite() { put(out, &value) } else { put_special(out, f64::from(value)) }
            }
        }
        DataType::Fp16 | DataType::Bf16 | DataType::Fp64 => {
            for value in tensor.iter_floats() {
                comma(out, start);
                if value.is_finite() { put(out, &value) } else { put_special(out, value) }
            }
        }
        DataType::Bytes => {
            for (index, value) in tensor.iter_bytes().enumerate() {
                comma(out, start);
                let text = std::str::from_utf8(value).map_err(|_| Error::Json {
                    name: tensor.name().to_owned(),
                    what: format!("element {index} is not UTF-8; ask for this output in binary"),
                })?;
                put(out, &text);
            }
        }
    }
    out.push(b']');
    Ok(())
}

fn comma(out: &mut Vec<u8>, start: usize) {
    if out.len() > start {
        out.push(b',');
    }
}

fn put<T: serde::Serialize>(out: &mut Vec<u8>, value: &T) {
    // Writing plain values into memory has no way to fail.
    let _ = serde_json::to_writer(out, value);
}

fn put_special(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(if value.is_nan() {
        b"null"
    } else if value > 0.0 {
        b"1e999"
    } else {
        b"-1e999"
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(tensor: &Tensor) -> String {
        let mut out = Vec::new();
        write(tensor, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn flat_and_nested_arrays_are_the_same_tensor() {
        let flat = read("x", DataType::Int32, vec![2, 2], "[1,2,3,4]").unwrap();
        let nested = read("x", DataType::Int32, vec![2, 2], "[[1,2],[3,4]]").unwrap();
        assert_eq!(flat, nested);
        assert_eq!(text(&flat), "[1,2,3,4]");
    }

    #[test]
    fn a_scalar_is_a_one_element_array_or_a_bare_value() {
        for data in ["[16000]", "16000"] {
            assert_eq!(text(&read("sr", DataType::Int64, vec![], data).unwrap()), "[16000]");
        }
    }

    #[test]
    fn wrong_elements_name_the_problem() {
        let message = |datatype, shape, data| match read("x", datatype, shape, data) {
            Err(error) => error.to_string(),
            Ok(tensor) => panic!("{tensor:?} should have been refused"),
        };
        insta::assert_snapshot!(message(DataType::Int8, vec![1], "[300]"), @"tensor `x`: element 0 is 300, outside INT8");
        insta::assert_snapshot!(message(DataType::Fp32, vec![1], "[\"a\"]"), @r#"tensor `x`: invalid type: string "a", expected FP32 elements"#);
        insta::assert_snapshot!(message(DataType::Fp32, vec![2], "[1]"), @"tensor `x`: shape [2] has 2 elements, data has 1");
        insta::assert_snapshot!(message(DataType::Fp32, vec![1], "[1,2]"), @"tensor `x`: data has more than the shape's 1 elements");
        insta::assert_snapshot!(message(DataType::Fp32, vec![1], "[[[1]]]"), @"tensor `x`: arrays nest deeper than the shape");
        insta::assert_snapshot!(message(DataType::Bytes, vec![1], "[1]"), @"tensor `x`: element 0 is the number 1, not BYTES");
        insta::assert_snapshot!(message(DataType::Int32, vec![1], "[1.5]"), @"tensor `x`: invalid type: floating point `1.5`, expected INT32 elements");
    }

    #[test]
    fn values_that_are_no_numbers_have_a_json_form() {
        let specials = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].map(f32::to_le_bytes).concat();
        let tensor = Tensor::new("x", DataType::Fp32, vec![3], specials.into()).unwrap();
        assert_eq!(text(&tensor), "[null,1e999,-1e999]");
        let read = read("x", DataType::Fp32, vec![4], r#"[null,"NaN","Infinity","-Infinity"]"#).unwrap();
        assert_eq!(text(&read), "[null,null,1e999,-1e999]");
    }

    /// Found by fuzzing: the quick way of reading decimals was off by one in the last place.
    #[test]
    fn doubles_are_read_to_the_last_bit() {
        for value in [1e-45, 0.1, 1.0 / 3.0, 8.988_465_674_311_58e307, f64::MIN_POSITIVE, 1.797_693_134_862_315_7e308] {
            let tensor = Tensor::new("x", DataType::Fp64, vec![1], value.to_le_bytes().to_vec().into()).unwrap();
            assert_eq!(read("x", DataType::Fp64, vec![1], &text(&tensor)).unwrap(), tensor, "{value}");
        }
        let read = read("x", DataType::Fp64, vec![1], "[1e-45]").unwrap();
        assert_eq!(read.data().as_ref(), 1e-45_f64.to_le_bytes());
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_in_json() {
        let tensor = Tensor::from_elements("s", vec![1], [&[255_u8][..]]).unwrap();
        assert!(write(&tensor, &mut Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn numbers_survive_the_round_trip(values: Vec<f32>, longs: Vec<i64>, texts: Vec<String>) {
            let finite: Vec<u8> = values.iter().filter(|v| v.is_finite()).flat_map(|v| v.to_le_bytes()).collect();
            let shape = vec![i64::try_from(finite.len() / 4).unwrap()];
            let tensor = Tensor::new("x", DataType::Fp32, shape.clone(), finite.into()).unwrap();
            prop_assert_eq!(&read("x", DataType::Fp32, shape, &text(&tensor)).unwrap(), &tensor);

            let raw: Vec<u8> = longs.iter().flat_map(|v| v.to_le_bytes()).collect();
            let shape = vec![i64::try_from(longs.len()).unwrap()];
            let tensor = Tensor::new("x", DataType::Int64, shape.clone(), raw.into()).unwrap();
            prop_assert_eq!(&read("x", DataType::Int64, shape, &text(&tensor)).unwrap(), &tensor);

            let shape = vec![i64::try_from(texts.len()).unwrap()];
            let tensor = Tensor::from_elements("x", shape.clone(), texts.iter().map(String::as_bytes)).unwrap();
            prop_assert_eq!(&read("x", DataType::Bytes, shape, &text(&tensor)).unwrap(), &tensor);
        }

        #[test]
        fn any_text_gives_an_answer(text in ".{0,200}") {
            let _ = read("x", DataType::Fp32, vec![3], &text);
        }
    }
}
