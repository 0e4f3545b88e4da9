//! The payload against what the model declares: names, types, shapes, values.

use rpc::orchestrator::ModelRoute;
use types::{
    Code, DataType, Refusal, Tensor,
    infer::{InferRequest, ModelMetadata},
    manifest::{Input, Nan, Source},
};

/// What a model takes, with what its manifest says of it; `None` where nobody tells: another server holds it, and keeps
/// that to itself.
pub(crate) fn declared(route: &ModelRoute) -> Option<Vec<Input>> {
    let said = &route.manifest.spec.inputs;
    if !matches!(route.manifest.spec.source, Source::Upstream(_)) {
        return Some(said.clone());
    }
    let told = route.metadata.as_ref().map(|metadata| metadata.inputs.as_slice()).unwrap_or_default();
    let merged = told.iter().map(|spec| {
        let said = said.iter().find(|input| input.name == spec.name).cloned();
        said.unwrap_or_else(|| Input {
            name: spec.name.clone(),
            datatype: spec.datatype,
            shape: Some(spec.shape.clone()),
            range: None,
            categories: Vec::new(),
            nan: Nan::Allow,
        })
    });
    let inputs: Vec<Input> = if told.is_empty() { said.clone() } else { merged.collect() };
    (!inputs.is_empty()).then_some(inputs)
}

/// Checks a request; O(elements) only for inputs that declare ranges, categories or refuse NaN.
///
/// # Errors
/// `input_mismatch`, `input_value_refused`, `output_unknown`, naming the input or output.
pub(crate) fn check(
    request: &InferRequest,
    inputs: Option<&[Input]>,
    metadata: Option<&ModelMetadata>,
) -> Result<(), Refusal> {
    let Some(inputs) = inputs else { return Ok(()) };
    for (index, tensor) in request.inputs.iter().enumerate() {
        if request.inputs[..index].iter().any(|other| other.name() == tensor.name()) {
            return Err(mismatch(request, format!("input `{}` is given twice", clip(tensor.name()))));
        }
        let Some(input) = inputs.iter().find(|input| input.name == tensor.name()) else {
            let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
            let what = format!("there is no input `{}`; the model takes {}", clip(tensor.name()), names.join(", "));
            return Err(mismatch(request, what));
        };
        check_form(request, tensor, input)?;
        check_values(tensor, input)?;
    }
    if let Some(missing) = inputs.iter().find(|input| request.inputs.iter().all(|t| t.name() != input.name)) {
        return Err(mismatch(request, format!("input `{}` ({}) is missing", missing.name, missing.datatype)));
    }
    if let Some(metadata) = metadata.filter(|metadata| !metadata.outputs.is_empty())
        && let Some(unknown) = request.outputs.iter().find(|name| metadata.outputs.iter().all(|o| o.name != **name))
    {
        let names: Vec<&str> = metadata.outputs.iter().map(|output| output.name.as_str()).collect();
        return Err(Refusal::new(
            Code::OutputUnknown,
            format!("there is no output `{}`; the model gives {}", clip(unknown), names.join(", ")),
        ));
    }
    Ok(())
}

fn mismatch(request: &InferRequest, what: String) -> Refusal {
    Refusal::new(Code::InputMismatch, what)
        .hint(format!("`mantlet models show {}` says what the model takes", request.model))
}

fn clip(name: &str) -> String {
    name.chars().take(80).collect()
}

fn check_form(request: &InferRequest, tensor: &Tensor, input: &Input) -> Result<(), Refusal> {
    if tensor.datatype() != input.datatype {
        return Err(mismatch(
            request,
            format!("input `{}` is {}, the model takes {}", input.name, tensor.datatype(), input.datatype),
        ));
    }
    let Some(shape) = &input.shape else { return Ok(()) };
    let fits = |(own, declared): (&i64, &i64)| *declared == -1 || own == declared;
    if tensor.shape().len() == shape.len() && tensor.shape().iter().zip(shape).all(fits) {
        return Ok(());
    }
    Err(mismatch(
        request,
        format!("input `{}` has shape {:?}, the model takes {shape:?} (-1 is any size)", input.name, tensor.shape()),
    ))
}

fn check_values(tensor: &Tensor, input: &Input) -> Result<(), Refusal> {
    let refused = |what: String| {
        Err(Refusal::new(Code::InputValueRefused, format!("input `{}`: {what}", input.name))
            .hint("the manifest of the model says which values it takes"))
    };
    if input.nan == Nan::Refuse
        && input.datatype.is_float()
        && let Some(at) = tensor.iter_floats().position(f64::is_nan)
    {
        return refused(format!("element {at} is NaN"));
    }
    if let Some([low, high]) = input.range
        && let Some((at, value)) = tensor.iter_numbers().enumerate().find(|(_, value)| !(low..=high).contains(value))
    {
        return refused(format!("element {at} is {value}, outside [{low}, {high}]"));
    }
    if input.datatype == DataType::Bytes
        && !input.categories.is_empty()
        && let Some((at, value)) = tensor
            .iter_bytes()
            .enumerate()
            .find(|(_, value)| !input.categories.iter().any(|category| category.as_bytes() == *value))
    {
        return refused(format!("element {at} is `{}`, no known category", clip(&String::from_utf8_lossy(value))));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use types::{Manifest, tensor::json};

    use super::*;

    fn inputs() -> Vec<Input> {
        let text = "{apiVersion: mantlet.dev/v1, kind: Model, metadata: {name: m}, spec: {source: {onnx: m}, inputs: [
            {name: a, type: FP32, shape: [-1, 2], range: [0, 10]}, {name: b, type: FP32, shape: [], nan: refuse},
            {name: c, type: BYTES, shape: [-1], categories: [DE, FR]}]}}";
        Manifest::from_yaml(text).unwrap().spec.inputs
    }

    fn outcome(a: &str, b: &str, c: &str) -> String {
        let tensor = |name, datatype, shape, text| json::read(name, datatype, shape, text).unwrap();
        let request = InferRequest {
            model: "m".parse().unwrap(),
            version: None,
            id: None,
            inputs: vec![
                tensor("a", DataType::Fp32, vec![1, 2], a),
                tensor("b", DataType::Fp32, vec![], b),
                tensor("c", DataType::Bytes, vec![1], c),
            ],
            outputs: vec![],
            timeout: None,
        };
        match check(&request, Some(&inputs()), None) {
            Ok(()) => "ok".into(),
            Err(refusal) => format!("{}: {}", refusal.code, refusal.message),
        }
    }

    #[test]
    fn values_are_held_against_the_declaration() {
        assert_eq!(outcome("[0, 10]", "[1]", "[\"DE\"]"), "ok");
        assert_eq!(
            outcome("[0, 10.5]", "[1]", "[\"DE\"]"),
            "input_value_refused: input `a`: element 1 is 10.5, outside [0, 10]"
        );
        assert_eq!(
            outcome("[null, 1]", "[1]", "[\"DE\"]"),
            "input_value_refused: input `a`: element 0 is NaN, outside [0, 10]"
        );
        assert_eq!(outcome("[1, 1]", "[null]", "[\"DE\"]"), "input_value_refused: input `b`: element 0 is NaN");
        assert_eq!(
            outcome("[1, 1]", "[1]", "[\"XX\"]"),
            "input_value_refused: input `c`: element 0 is `XX`, no known category"
        );
    }

    #[test]
    fn names_types_and_shapes_are_held_against_the_declaration() {
        let request = |tensors: Vec<Tensor>| InferRequest {
            model: "m".parse().unwrap(),
            version: None,
            id: None,
            inputs: tensors,
            outputs: vec![],
            timeout: None,
        };
        let message = |tensors| check(&request(tensors), Some(&inputs()), None).unwrap_err().message.into_owned();
        let a = |shape: Vec<i64>, text| json::read("a", DataType::Fp32, shape, text).unwrap();
        assert_eq!(message(vec![]), "input `a` (FP32) is missing");
        assert_eq!(
            message(vec![a(vec![1, 3], "[1,2,3]")]),
            "input `a` has shape [1, 3], the model takes [-1, 2] (-1 is any size)"
        );
        assert_eq!(message(vec![a(vec![1, 2], "[1,2]"), a(vec![1, 2], "[1,2]")]), "input `a` is given twice");
        assert_eq!(
            message(vec![a(vec![1, 2], "[1,2]").renamed("z")]),
            "there is no input `z`; the model takes a, b, c"
        );
        let wrong = json::read("a", DataType::Int32, vec![1, 2], "[1,2]").unwrap();
        assert_eq!(message(vec![wrong]), "input `a` is INT32, the model takes FP32");
    }
}
