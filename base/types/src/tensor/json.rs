//! The JSON form of a tensor's elements: arrays, flat or nested, in row-major order.
//!
//! JSON has no word for values that are no numbers. NaN is written as `null`, infinities as `1e999` and
//! `-1e999`, which Python and browsers read as infinities; read are those, the texts `"NaN"`, `"Infinity"`
//! and `"-Infinity"` of protobuf's JSON form, and the same words bare, as some clients write them. `BYTES` are strings,
//! so only valid UTF-8 can be written; other bytes need the binary form.
//!
//! Reading is its own, and not a JSON library's: a picture is half a megabyte of digits, and this is what it costs.

use bytes::{BufMut, Bytes, BytesMut};

use super::{DataType, Error, Tensor, elements, push_element};

/// Reads a tensor from the JSON text of its `data`.
///
/// Takes O(text) in one pass; allocates the raw bytes once. Nesting may be flat or at most as deep as the shape.
///
/// # Errors
/// When the text is no JSON, an element does not fit the type, or their number not the shape.
pub fn read(name: &str, datatype: DataType, shape: Vec<i64>, text: &str) -> Result<Tensor, Error> {
    let wrong = |what: String| Error::Json { name: name.to_owned(), what };
    let count = elements(name, &shape)?;
    // The text bounds the reservation: an element takes at least two characters with its comma.
    let reserve = count.min(text.len() / 2 + 1).saturating_mul(datatype.width().unwrap_or(8));
    let sink = Sink { datatype, data: BytesMut::with_capacity(reserve), count: 0, limit: count };
    let mut reader = Reader { text, at: 0, sink };
    reader.values(shape.len().max(1)).map_err(wrong)?;
    if reader.sink.count != count {
        return Err(wrong(format!("shape {shape:?} has {count} elements, data has {}", reader.sink.count)));
    }
    Tensor::new(name, datatype, shape, reader.sink.data.freeze())
}

/// Walks over the text.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    sink: Sink,
}

impl<'a> Reader<'a> {
    /// One value: an element, or arrays of them, at most so deep.
    fn values(&mut self, depth: usize) -> Result<(), String> {
        let mut level = 0_usize;
        'value: loop {
            match self.next() {
                Some(b'[') if level == depth => return Err("arrays nest deeper than the shape".into()),
                Some(b'[') => {
                    (level, self.at) = (level + 1, self.at + 1);
                    if self.next() != Some(b']') {
                        continue;
                    }
                }
                Some(_) => self.element()?,
                None => return Err("the data ends in the middle".into()),
            }
            while level > 0 {
                match self.next() {
                    Some(b',') => {
                        self.at += 1;
                        continue 'value;
                    }
                    Some(b']') => (level, self.at) = (level - 1, self.at + 1),
                    _ => return Err(self.strange()),
                }
            }
            return if self.next().is_none() { Ok(()) } else { Err(self.strange()) };
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is no white space.
    fn next(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
        self.peek()
    }

    fn strange(&self) -> String {
        let found = self.text.get(self.at..).and_then(|rest| rest.chars().next());
        match found {
            Some(found) => format!("`{found}` stands at element {}, where none belongs", self.sink.count),
            None => "the data ends in the middle".into(),
        }
    }

    fn element(&mut self) -> Result<(), String> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'0'..=b'9') => self.number(),
            Some(b'-') if self.text.as_bytes().get(self.at + 1) != Some(&b'I') => self.number(),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<(), String> {
        let rest = &self.text.as_bytes()[self.at..];
        let words: [(&str, Word); 6] = [
            ("true", Word::Bool(true)),
            ("false", Word::Bool(false)),
            ("null", Word::Special(f64::NAN)),
            ("NaN", Word::Special(f64::NAN)),
            ("Infinity", Word::Special(f64::INFINITY)),
            ("-Infinity", Word::Special(f64::NEG_INFINITY)),
        ];
        let found = words.into_iter().find(|(word, _)| rest.starts_with(word.as_bytes()));
        let Some((word, value)) = found else { return Err(self.strange()) };
        self.at += word.len();
        match (value, self.sink.datatype) {
            (Word::Bool(value), DataType::Bool) => {
                self.sink.admit()?;
                self.sink.data.put_u8(u8::from(value));
                Ok(())
            }
            (Word::Special(value), datatype) if datatype.is_float() => self.sink.float(value),
            (_, datatype) => Err(format!("invalid type: {word}, expected {datatype} elements")),
        }
    }

    fn string(&mut self) -> Result<(), String> {
        let (start, bytes) = (self.at, self.text.as_bytes());
        let mut escaped = false;
        loop {
            self.at += 1;
            match bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => (self.at, escaped) = (self.at + 1, true),
                Some(0..0x20) => return Err(format!("element {} holds a bare control character", self.sink.count)),
                Some(_) => {}
                None => return Err("the data ends in the middle of a text".into()),
            }
        }
        self.at += 1;
        if !escaped {
            return self.sink.text(&self.text[start + 1..self.at - 1]);
        }
        let whole = self.text.get(start..self.at).unwrap_or_default();
        let text: String = serde_json::from_str(whole)
            .map_err(|_| format!("element {} holds an escape that JSON does not know", self.sink.count))?;
        self.sink.text(&text)
    }

    /// Digits from here on: their number as long as it is small, and how many.
    fn digits(&mut self) -> (u64, usize) {
        let (start, mut value) = (self.at, 0_u64);
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        (value, self.at - start)
    }

    /// Skips digits, eight at a time; whether there was any.
    fn skip_digits(&mut self) -> bool {
        let (start, bytes) = (self.at, self.text.as_bytes());
        while let Some(eight) = bytes.get(self.at..).and_then(|rest| rest.first_chunk()) {
            if !are_digits(*eight) {
                break;
            }
            self.at += 8;
        }
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        self.at > start
    }

    fn number(&mut self) -> Result<(), String> {
        let start = self.at;
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let first = self.peek();
        let (whole, length) = self.digits();
        if length == 0 || (length > 1 && first == Some(b'0')) {
            return Err(self.strange());
        }
        let mut integer = true;
        if self.peek() == Some(b'.') {
            (self.at, integer) = (self.at + 1, false);
            if !self.skip_digits() {
                return Err(self.strange());
            }
        }
        if let Some(b'e' | b'E') = self.peek() {
            (self.at, integer) = (self.at + 1, false);
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            if !self.skip_digits() {
                return Err(self.strange());
            }
        }
        let float = self.sink.datatype.is_float();
        if integer && length <= 18 && (whole > 0 || !negative || !float) {
            let value = i128::from(whole);
            return self.sink.integer(if negative { -value } else { value });
        }
        let text: &'a str = &self.text[start..self.at];
        if integer && !float {
            let value: i128 = text.parse().map_err(|_| format!("element {} is far too large", self.sink.count))?;
            return self.sink.integer(value);
        }
        let value: f64 = text.parse().map_err(|_| self.strange())?;
        if float {
            return self.sink.float(value);
        }
        // Some writers print whole numbers as `1.0`.
        if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 {
            return self.sink.integer(value as i128);
        }
        Err(format!("invalid type: floating point `{value}`, expected {} elements", self.sink.datatype))
    }
}

/// Whether all eight are digits: the upper half of each byte is 3, and stays 3 when 6 is added to it.
fn are_digits(eight: [u8; 8]) -> bool {
    const UPPER: u64 = 0xF0F0_F0F0_F0F0_F0F0;
    const THREE: u64 = 0x3030_3030_3030_3030;
    let word = u64::from_le_bytes(eight);
    (word & UPPER) == THREE && (word.wrapping_add(0x0606_0606_0606_0606) & UPPER) == THREE
}

#[derive(Clone, Copy)]
enum Word {
    Bool(bool),
    Special(f64),
}

struct Sink {
    datatype: DataType,
    data: BytesMut,
    count: usize,
    limit: usize,
}

impl Sink {
    fn admit(&mut self) -> Result<(), String> {
        if self.count == self.limit {
            return Err(format!("data has more than the shape's {} elements", self.limit));
        }
        self.count += 1;
        Ok(())
    }

    fn text(&mut self, value: &str) -> Result<(), String> {
        let special = match value {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        };
        if let Some(number) = special.filter(|_| self.datatype.is_float()) {
            return self.float(number);
        }
        if self.datatype != DataType::Bytes {
            let shown = if value.len() > 40 { "a long text" } else { value };
            return Err(format!("invalid type: string {shown:?}, expected {} elements", self.datatype));
        }
        self.admit()?;
        push_element(&mut self.data, value.as_bytes());
        Ok(())
    }

    fn integer(&mut self, value: i128) -> Result<(), String> {
        if self.datatype.is_float() {
            return self.float(value as f64);
        }
        self.admit()?;
        let index = self.count - 1;
        let range = || format!("element {index} is {value}, outside {}", self.datatype);
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
            _ => return Err(format!("element {index} is the number {value}, not {}", self.datatype)),
        }
        Ok(())
    }

    fn float(&mut self, value: f64) -> Result<(), String> {
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
        let texts = read("x", DataType::Fp32, vec![4], r#"[null,"NaN","Infinity","-Infinity"]"#).unwrap();
        assert_eq!(text(&texts), "[null,null,1e999,-1e999]");
        let bare = read("x", DataType::Fp32, vec![5], "[NaN, Infinity,-Infinity ,1e999,-0]").unwrap();
        assert_eq!(text(&bare), "[null,1e999,-1e999,1e999,-0.0]");
    }

    #[test]
    fn eight_digits_are_told_from_anything_else() {
        for byte in 0..=255_u8 {
            for place in 0..8 {
                let mut eight = *b"01234567";
                eight[place] = byte;
                assert_eq!(are_digits(eight), byte.is_ascii_digit(), "{byte} at {place}");
            }
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for data in [
            "",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1]]",
            "[01]",
            "[+1]",
            "[.5]",
            "[1.]",
            "[1e]",
            "[-]",
            "[1]x",
            "[1e+]",
            "[--1]",
            "[0x1]",
            "[1_0]",
            "[nul]",
            "[Nan]",
            "[-Inf]",
            "[tru]",
            "{}",
            "[{}]",
            "[inf]",
            "[\u{661}]",
        ] {
            assert!(read("x", DataType::Fp32, vec![1], data).is_err(), "{data}");
        }
        for data in [r#"["a]"#, r#"["\q"]"#, r#"["\"]"#, "[\"\n\"]", r#"["\ud800"]"#, "[null]", "[NaN]"] {
            assert!(read("x", DataType::Bytes, vec![1], data).is_err(), "{data}");
        }
        let escaped = read("x", DataType::Bytes, vec![2], r#"["a\"\u00e9\\", "ü"]"#).unwrap();
        assert_eq!(escaped.iter_bytes().collect::<Vec<_>>(), ["a\"é\\".as_bytes(), "ü".as_bytes()]);
        assert_eq!(
            text(&read("x", DataType::Int64, vec![3], "[-0,1.0,-9223372036854775808]").unwrap()),
            "[0,1,-9223372036854775808]"
        );
        assert!(read("x", DataType::Int64, vec![1], "[9223372036854775808]").is_err());
        assert_eq!(
            text(&read("x", DataType::Uint64, vec![1], "[18446744073709551615]").unwrap()),
            "[18446744073709551615]"
        );
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

        /// Like a JSON library, but for what is no JSON to it and a number to us.
        #[test]
        fn whatever_a_json_library_reads_is_read_alike(text in r#"\[?[-+0-9.eE]{1,12}([, ]{0,2}[-+0-9.eE]{1,24}){0,2}\]?"#) {
            let library: Option<Vec<f64>> = serde_json::from_str(&text).ok();
            let ours = library.as_ref().map(|values| values.len() as i64).and_then(|count| {
                read("x", DataType::Fp64, vec![count], &text).ok()
            });
            let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            let ours = ours.map(|tensor| bits(&tensor.iter_floats().collect::<Vec<_>>()));
            prop_assert_eq!(library.as_deref().map(bits), ours, "{}", text);
            if library.is_none() {
                for count in 1..4 {
                    let read = read("x", DataType::Fp64, vec![count], &text);
                    let infinite = read.as_ref().is_ok_and(|tensor| tensor.iter_floats().any(f64::is_infinite));
                    let bare = !text.starts_with('[');
                    prop_assert!(read.is_err() || infinite || bare, "{}", text);
                }
            }
        }
    }
}
