//! What a graph may bring with it: operators that are built in, data that lie in the file, and sizes that the file can
//! hold; in every subgraph and function.

use types::{Code, Refusal};

use super::proto::{AttributeProto, EXTERNAL, FunctionProto, GraphProto, NodeProto, TensorProto};

/// Operator sets that ONNX Runtime has built in.
const DOMAINS: [&str; 6] = ["", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "com.microsoft", "com.microsoft.nchwc"];
/// Nodes of a model, subgraphs and functions included.
const NODES: usize = 200_000;
/// Weights of a model.
const WEIGHTS: usize = 200_000;
/// Subgraphs inside each other.
const DEPTH: usize = 16;
/// The most elements a byte can hold: types of four bits have two.
const PER_BYTE: u64 = 2;

/// Checks a whole model of `size` bytes.
///
/// # Errors
/// `model_unsupported` for custom operators and data in other files, `model_invalid` for what no file of this size holds.
pub(super) fn check(graph: &GraphProto, functions: &[FunctionProto], size: u64) -> Result<(), Refusal> {
    let mut walk = Walk { functions, size, nodes: 0, weights: 0 };
    walk.graph(graph, 0)?;
    functions.iter().try_for_each(|function| walk.nodes(&function.node, 0))
}

struct Walk<'a> {
    functions: &'a [FunctionProto],
    size: u64,
    nodes: usize,
    weights: usize,
}

pub(super) fn too_much(what: &str, most: usize) -> Refusal {
    Refusal::new(Code::ModelInvalid, format!("the model has more than {most} {what}"))
        .hint("simplify it: `python -m onnxsim model.onnx simple.onnx`")
}

impl Walk<'_> {
    fn graph(&mut self, graph: &GraphProto, depth: usize) -> Result<(), Refusal> {
        if depth > DEPTH {
            return Err(too_much("subgraphs inside each other", DEPTH));
        }
        graph.initializer.iter().try_for_each(|tensor| self.tensor(tensor))?;
        self.nodes(&graph.node, depth)
    }

    fn nodes(&mut self, nodes: &[NodeProto], depth: usize) -> Result<(), Refusal> {
        self.nodes += nodes.len();
        if self.nodes > NODES {
            return Err(too_much("nodes", NODES));
        }
        for node in nodes {
            let own = |function: &FunctionProto| function.domain == node.domain && function.name == node.op_type;
            if !DOMAINS.contains(&node.domain.as_str()) && !self.functions.iter().any(own) {
                return Err(Refusal::new(
                    Code::ModelUnsupported,
                    format!("the operator `{}.{}` is a custom one", clip(&node.domain), clip(&node.op_type)),
                )
                .hint("export the model with operators of ONNX alone: libraries of custom operators are not loaded"));
            }
            node.attribute.iter().try_for_each(|attribute| self.attribute(attribute, depth))?;
        }
        Ok(())
    }

    fn attribute(&mut self, attribute: &AttributeProto, depth: usize) -> Result<(), Refusal> {
        attribute.tensor.iter().chain(&attribute.tensors).try_for_each(|tensor| self.tensor(tensor))?;
        let inner = attribute.graph.iter().map(AsRef::as_ref).chain(&attribute.graphs);
        inner.into_iter().try_for_each(|graph| self.graph(graph, depth + 1))
    }

    fn tensor(&mut self, tensor: &TensorProto) -> Result<(), Refusal> {
        self.weights += 1;
        if self.weights > WEIGHTS {
            return Err(too_much("weights", WEIGHTS));
        }
        let name = clip(&tensor.name);
        if tensor.data_location == EXTERNAL {
            return Err(Refusal::new(Code::ModelUnsupported, format!("the weights `{name}` lie in another file"))
                .hint("save one file: `python -c \"import onnx; onnx.save(onnx.load('model.onnx'), 'whole.onnx')\"`"));
        }
        let multiply = |product: u64, dimension: &i64| product.checked_mul(u64::try_from(*dimension).ok()?);
        let elements = tensor.dims.iter().try_fold(1_u64, multiply);
        match elements {
            Some(elements) if elements <= self.size.saturating_mul(PER_BYTE) => Ok(()),
            _ => Err(Refusal::new(
                Code::ModelInvalid,
                format!(
                    "the weights `{name}` claim the shape {:?}, more than the file holds",
                    &tensor.dims[..tensor.dims.len().min(8)]
                ),
            )
            .hint("export the model again")),
        }
    }
}

fn clip(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::onnx::{proto::ModelProto, read, tests::tiny};

    fn with(edit: impl FnOnce(&mut ModelProto)) -> Result<(), Refusal> {
        let mut model = ModelProto::decode(tiny(&[1]).as_slice()).unwrap();
        edit(&mut model);
        read(&model.encode_to_vec()).map(drop)
    }

    fn graph(model: &mut ModelProto) -> &mut GraphProto {
        model.graph.as_mut().unwrap()
    }

    fn node(domain: &str) -> NodeProto {
        NodeProto { op_type: "Op".into(), domain: domain.into(), attribute: vec![] }
    }

    fn inside(graph: GraphProto) -> NodeProto {
        let attribute = AttributeProto { graph: Some(Box::new(graph)), ..AttributeProto::default() };
        NodeProto { attribute: vec![attribute], ..node("") }
    }

    fn weights(dims: &[i64], location: i32) -> TensorProto {
        TensorProto { name: "w".into(), dims: dims.to_vec(), data_location: location }
    }

    #[test]
    fn custom_operators_are_refused_wherever_they_stand_and_a_models_own_functions_are_not() {
        let code = |outcome: Result<(), Refusal>| outcome.unwrap_err().code;
        assert_eq!(code(with(|model| graph(model).node.push(node("evil")))), Code::ModelUnsupported);
        let nested = GraphProto { node: vec![node("evil")], ..GraphProto::default() };
        assert_eq!(code(with(|model| graph(model).node.push(inside(nested)))), Code::ModelUnsupported);
        for domain in DOMAINS {
            with(|model| graph(model).node.push(node(domain))).unwrap();
        }
        let function =
            |inner: &str| FunctionProto { name: "Op".into(), domain: "mine".into(), node: vec![node(inner)] };
        with(|model| {
            graph(model).node.push(node("mine"));
            model.functions.push(function(""));
        })
        .unwrap();
        let hidden = with(|model| {
            graph(model).node.push(node("mine"));
            model.functions.push(function("evil"));
        });
        assert_eq!(code(hidden), Code::ModelUnsupported);
    }

    #[test]
    fn bombs_are_refused_before_anybody_loads_them() {
        let deep = (0..20)
            .fold(GraphProto::default(), |inner, _| GraphProto { node: vec![inside(inner)], ..GraphProto::default() });
        let mut refusals = vec![with(|model| graph(model).node.push(inside(deep)))];
        for dims in [&[1 << 40][..], &[1 << 32, 1 << 32], &[-1], &[i64::MAX, i64::MAX, 0]] {
            refusals.push(with(|model| graph(model).initializer.push(weights(dims, 0))));
        }
        refusals.push(with(|model| graph(model).node = (0..=NODES).map(|_| node("")).collect()));
        for refusal in refusals {
            assert_eq!(refusal.unwrap_err().code, Code::ModelInvalid);
        }
        let hidden = NodeProto {
            attribute: vec![AttributeProto { tensors: vec![weights(&[1], EXTERNAL)], ..AttributeProto::default() }],
            ..node("")
        };
        let refusal = with(|model| graph(model).node.push(hidden)).unwrap_err();
        assert!(refusal.message.contains("another file"), "{refusal}");
        with(|model| graph(model).initializer.push(weights(&[], 0))).unwrap();
    }
}
