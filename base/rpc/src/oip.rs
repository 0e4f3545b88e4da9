//! Inferences as messages of the Open Inference Protocol v2, and back.
//!
//! Written is always the raw form. Read are both: raw contents for all inputs, or typed contents in the list
//! that fits the type (`FP16` and `BF16` have none).

use std::{collections::HashMap, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use types::{
    Code, DataType, Refusal, Tensor, Version,
    infer::{InferRequest, InferResponse},
};

/// The protocol's messages, generated from `proto/inference.proto`.
#[expect(missing_docs, reason = "the protocol's own names")]
#[allow(
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    unreachable_pub,
    reason = "generated"
)]
pub mod proto {
    tonic::include_proto!("inference");
}

use proto::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
    infer_parameter::ParameterChoice,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    model_infer_response::InferOutputTensor,
};

fn malformed(what: impl Into<String>) -> Refusal {
    Refusal::new(Code::RequestMalformed, what.into())
}

/// Reads a version as the protocol writes it: empty text for none.
///
/// # Errors
/// `request_malformed` for anything but a number.
pub fn read_version(text: &str) -> Result<Option<Version>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let number = text.parse().ok().filter(|n| *n > 0);
    let wrong = || malformed(format!("failed to get model version from specified version string '{}'", clip(text)));
    Ok(Some(Version(number.ok_or_else(wrong)?)))
}

fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Reads a request.
///
/// # Errors
/// What does not fit together, naming the input.
pub fn read_request(message: ModelInferRequest) -> Result<InferRequest, Refusal> {
    let ModelInferRequest { model_name, model_version, id, parameters, inputs, outputs, raw_input_contents } = message;
    let raw = !raw_input_contents.is_empty();
    if raw && let Some(input) = inputs.iter().find(|input| input.contents.is_some()) {
        return Err(malformed(format!(
            "contents field must not be specified when using raw_input_contents for '{}' for model '{}'",
            clip(&input.name),
            clip(&model_name),
        )));
    }
    if raw && raw_input_contents.len() != inputs.len() {
        return Err(malformed(format!(
            "{} inputs are named, and raw_input_contents holds {}",
            inputs.len(),
            raw_input_contents.len()
        )));
    }
    let mut raw_contents = raw_input_contents.into_iter();
    let inputs = inputs.into_iter().map(|input| read_input(input, raw_contents.next())).collect::<Result<_, _>>()?;
    refuse_shared_memory(outputs.iter().map(|output| &output.parameters))?;
    Ok(InferRequest {
        model: model_name.parse()?,
        version: read_version(&model_version)?,
        id: (!id.is_empty()).then_some(id),
        inputs,
        outputs: outputs.into_iter().map(|output| output.name).collect(),
        timeout: read_timeout(&parameters),
    })
}

fn read_timeout(parameters: &HashMap<String, InferParameter>) -> Option<Duration> {
    let micros = match parameters.get("timeout")?.parameter_choice.as_ref()? {
        ParameterChoice::Int64Param(micros) => u64::try_from(*micros).ok()?,
        ParameterChoice::Uint64Param(micros) => *micros,
        _ => return None,
    };
    (micros > 0).then(|| Duration::from_micros(micros))
}

fn refuse_shared_memory<'a>(
    parameters: impl Iterator<Item = &'a HashMap<String, InferParameter>>,
) -> Result<(), Refusal> {
    for parameters in parameters {
        if parameters.contains_key("shared_memory_region") {
            return Err(malformed("shared memory is not offered; send tensors in the request"));
        }
        if parameters.contains_key("classification") {
            return Err(malformed("the classification extension is not offered; ask for the scores"));
        }
    }
    Ok(())
}

fn read_input(input: InferInputTensor, raw: Option<Bytes>) -> Result<Tensor, Refusal> {
    refuse_shared_memory(std::iter::once(&input.parameters))?;
    let datatype = DataType::parse(&input.datatype).ok_or_else(|| {
        Refusal::new(
            Code::InputMismatch,
            format!("input `{}`: there is no type `{}`", clip(&input.name), clip(&input.datatype)),
        )
    })?;
    let data = match (raw, input.contents) {
        (Some(raw), _) => raw,
        (None, Some(contents)) => pack(&input.name, datatype, contents)?,
        // An empty tensor has nothing to send.
        (None, None) => Bytes::new(),
    };
    Ok(Tensor::new(input.name, datatype, input.shape, data)?)
}

fn pack(name: &str, datatype: DataType, contents: InferTensorContents) -> Result<Bytes, Refusal> {
    let mut data = BytesMut::new();
    let range = |index: usize| {
        Refusal::new(Code::InputMismatch, format!("input `{}`: element {index} is outside {datatype}", clip(name)))
    };
    macro_rules! narrow {
        ($list:expr, $type:ty) => {
            for (index, value) in $list.into_iter().enumerate() {
                data.put_slice(&<$type>::try_from(value).map_err(|_| range(index))?.to_le_bytes());
            }
        };
    }
    match datatype {
        DataType::Bool => contents.bool_contents.into_iter().for_each(|value| data.put_u8(u8::from(value))),
        DataType::Int8 => narrow!(contents.int_contents, i8),
        DataType::Int16 => narrow!(contents.int_contents, i16),
        DataType::Int32 => contents.int_contents.into_iter().for_each(|value| data.put_i32_le(value)),
        DataType::Int64 => contents.int64_contents.into_iter().for_each(|value| data.put_i64_le(value)),
        DataType::Uint8 => narrow!(contents.uint_contents, u8),
        DataType::Uint16 => narrow!(contents.uint_contents, u16),
        DataType::Uint32 => contents.uint_contents.into_iter().for_each(|value| data.put_u32_le(value)),
        DataType::Uint64 => contents.uint64_contents.into_iter().for_each(|value| data.put_u64_le(value)),
        DataType::Fp32 => contents.fp32_contents.into_iter().for_each(|value| data.put_f32_le(value)),
        DataType::Fp64 => contents.fp64_contents.into_iter().for_each(|value| data.put_f64_le(value)),
        DataType::Bytes => {
            contents.bytes_contents.iter().for_each(|value| types::tensor::push_element(&mut data, value));
        }
        DataType::Fp16 | DataType::Bf16 => {
            return Err(Refusal::new(
                Code::InputMismatch,
                format!("input `{}`: {datatype} has no typed contents; send it in raw_input_contents", clip(name)),
            ));
        }
    }
    Ok(data.freeze())
}

/// Writes a request.
pub fn write_request(request: InferRequest) -> ModelInferRequest {
    let mut message = ModelInferRequest {
        model_name: request.model.to_string(),
        model_version: request.version.map(|version| version.to_string()).unwrap_or_default(),
        id: request.id.unwrap_or_default(),
        ..ModelInferRequest::default()
    };
    for tensor in request.inputs {
        message.raw_input_contents.push(tensor.data().clone());
        message.inputs.push(InferInputTensor {
            name: tensor.name().to_owned(),
            datatype: tensor.datatype().to_string(),
            shape: tensor.shape().to_vec(),
            ..InferInputTensor::default()
        });
    }
    let wanted = |name| InferRequestedOutputTensor { name, ..InferRequestedOutputTensor::default() };
    message.outputs = request.outputs.into_iter().map(wanted).collect();
    message
}

/// The parameter that says how far the state that answered had learnt, where the model is one that learns.
const SNAPSHOT: &str = "snapshot";

/// How far the state that answered had learnt, where the answer says it.
pub fn read_snapshot(message: &ModelInferResponse) -> Option<u64> {
    match message.parameters.get(SNAPSHOT)?.parameter_choice.as_ref()? {
        ParameterChoice::Uint64Param(snapshot) => Some(*snapshot),
        _ => None,
    }
}

/// Writes an answer.
pub fn write_response(model: &str, version: u64, id: Option<&str>, response: InferResponse) -> ModelInferResponse {
    let mut message = ModelInferResponse {
        model_name: model.to_owned(),
        model_version: version.to_string(),
        id: id.unwrap_or_default().to_owned(),
        ..ModelInferResponse::default()
    };
    if let Some(snapshot) = response.snapshot {
        let parameter_choice = Some(ParameterChoice::Uint64Param(snapshot));
        message.parameters.insert(SNAPSHOT.to_owned(), InferParameter { parameter_choice });
    }
    for tensor in response.outputs {
        message.raw_output_contents.push(tensor.data().clone());
        message.outputs.push(InferOutputTensor {
            name: tensor.name().to_owned(),
            datatype: tensor.datatype().to_string(),
            shape: tensor.shape().to_vec(),
            ..InferOutputTensor::default()
        });
    }
    message
}

/// Reads the outputs of an answer of one of our own model servers.
///
/// # Errors
/// `internal` when it is not in the raw form.
pub fn read_outputs(message: ModelInferResponse) -> Result<Vec<Tensor>, Refusal> {
    let wrong = |what: String| Refusal::new(Code::Internal, format!("a model server's answer can't be read: {what}"));
    if message.outputs.len() != message.raw_output_contents.len() {
        return Err(wrong("outputs and contents differ in number".into()));
    }
    let tensors = message.outputs.into_iter().zip(message.raw_output_contents);
    tensors
        .map(|(output, data)| {
            let datatype = DataType::parse(&output.datatype).ok_or_else(|| wrong(output.datatype.clone()))?;
            Tensor::new(output.name, datatype, output.shape, data).map_err(|error| wrong(error.to_string()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(datatype: &str, shape: Vec<i64>, contents: Option<InferTensorContents>) -> ModelInferRequest {
        ModelInferRequest {
            model_name: "simple".into(),
            inputs: vec![InferInputTensor {
                name: "INPUT0".into(),
                datatype: datatype.into(),
                shape,
                contents,
                ..InferInputTensor::default()
            }],
            ..ModelInferRequest::default()
        }
    }

    #[test]
    fn a_request_survives_the_round_trip() {
        let contents = InferTensorContents { int_contents: vec![1, -2], ..InferTensorContents::default() };
        let request = read_request(input("INT8", vec![2], Some(contents))).unwrap();
        assert_eq!(request.inputs[0].data().as_ref(), [1, 254]);
        assert_eq!(read_request(write_request(request.clone())).unwrap(), request);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let contents = InferTensorContents { int_contents: vec![300], ..InferTensorContents::default() };
        let message = |request| read_request(request).unwrap_err().message.into_owned();
        assert_eq!(
            message(input("INT8", vec![1], Some(contents.clone()))),
            "input `INPUT0`: element 0 is outside INT8"
        );
        assert_eq!(message(input("INT9", vec![1], None)), "input `INPUT0`: there is no type `INT9`");
        let mut both = input("INT32", vec![1], Some(contents));
        both.raw_input_contents.push(Bytes::from_static(&[0; 4]));
        assert_eq!(
            message(both),
            "contents field must not be specified when using raw_input_contents for 'INPUT0' for model 'simple'"
        );
        let mut versioned = input("INT32", vec![0], None);
        versioned.model_version = "first".into();
        assert_eq!(message(versioned), "failed to get model version from specified version string 'first'");
    }
}
