//! Reading an ONNX file as far as weights go: its initialisers, and the nodes that use them.
//!
//! Protocol buffers on the wire are a tag and a value, again and again (protobuf.dev/programming-guides/encoding); the numbers
//! of the fields are those of `onnx.proto` (github.com/onnx/onnx, IR version 8). What is not needed is passed over. It runs
//! nothing, and follows no file that the model names.

use std::collections::BTreeMap;

/// Dimensions of a tensor that are read.
const DIMS_MAX: usize = 8;

/// `ModelProto.graph`.
const MODEL_GRAPH: u64 = 7;
/// `GraphProto.node`, `.initializer`.
const GRAPH_NODE: u64 = 1;
const GRAPH_INITIALIZER: u64 = 5;
/// `NodeProto.input`, `.name`, `.op_type`, `.attribute`.
const NODE_INPUT: u64 = 1;
const NODE_NAME: u64 = 3;
const NODE_OP: u64 = 4;
const NODE_ATTRIBUTE: u64 = 5;
/// `AttributeProto.name`, `.i`.
const ATTRIBUTE_NAME: u64 = 1;
const ATTRIBUTE_INT: u64 = 3;
/// `TensorProto.dims`, `.data_type`, `.float_data`, `.int32_data`, `.name`, `.raw_data`, `.data_location`.
const TENSOR_DIMS: u64 = 1;
const TENSOR_TYPE: u64 = 2;
const TENSOR_FLOATS: u64 = 4;
const TENSOR_INTS: u64 = 5;
const TENSOR_NAME: u64 = 8;
const TENSOR_RAW: u64 = 9;
const TENSOR_LOCATION: u64 = 14;
/// `TensorProto.DataType`.
const FLOAT: u64 = 1;
const UINT8: u64 = 2;

/// What a model's graph holds.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) tensors: BTreeMap<String, Initialiser>,
    pub(crate) nodes: Vec<Node>,
}

/// A tensor that is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Initialiser {
    pub(crate) dims: Vec<usize>,
    pub(crate) values: Values,
}

/// Its numbers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    Floats(Vec<f32>),
    Bytes(Vec<u8>),
    /// Of a type that is not needed.
    Other,
}

/// An operation.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) op: String,
    pub(crate) inputs: Vec<String>,
    pub(crate) ints: BTreeMap<String, u64>,
}

/// One field's value.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

struct Fields<'a>(&'a [u8]);

type Read<T> = Result<T, &'static str>;

/// Reads a model.
pub(crate) fn read(file: &[u8]) -> Read<Graph> {
    let mut graph = Graph::default();
    each(file, |field, value| {
        if let (MODEL_GRAPH, Value::Bytes(bytes)) = (field, value) {
            each(bytes, |field, value| {
                match (field, value) {
                    (GRAPH_NODE, Value::Bytes(bytes)) => graph.nodes.push(node(bytes)?),
                    (GRAPH_INITIALIZER, Value::Bytes(bytes)) => {
                        let (name, tensor) = initialiser(bytes)?;
                        graph.tensors.insert(name, tensor);
                    }
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(())
    })?;
    if graph.tensors.is_empty() { Err("it holds no weights") } else { Ok(graph) }
}

fn node(bytes: &[u8]) -> Read<Node> {
    let mut node = Node::default();
    each(bytes, |field, value| {
        match (field, value) {
            (NODE_INPUT, Value::Bytes(bytes)) => node.inputs.push(text(bytes)?),
            (NODE_NAME, Value::Bytes(bytes)) => node.name = text(bytes)?,
            (NODE_OP, Value::Bytes(bytes)) => node.op = text(bytes)?,
            (NODE_ATTRIBUTE, Value::Bytes(bytes)) => {
                let (mut name, mut number) = (String::new(), None);
                each(bytes, |field, value| {
                    match (field, value) {
                        (ATTRIBUTE_NAME, Value::Bytes(bytes)) => name = text(bytes)?,
                        (ATTRIBUTE_INT, Value::Number(int)) => number = Some(int),
                        _ => {}
                    }
                    Ok(())
                })?;
                node.ints.extend(number.map(|number| (name, number)));
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(node)
}

fn initialiser(bytes: &[u8]) -> Read<(String, Initialiser)> {
    let (mut name, mut dims, mut dtype) = (String::new(), Vec::new(), 0);
    let (mut raw, mut floats, mut ints): (&[u8], Vec<f32>, Vec<u64>) = (&[], Vec::new(), Vec::new());
    each(bytes, |field, value| {
        match (field, value) {
            (TENSOR_NAME, Value::Bytes(bytes)) => name = text(bytes)?,
            (TENSOR_DIMS, value) => value.numbers(&mut dims)?,
            (TENSOR_TYPE, Value::Number(number)) => dtype = number,
            (TENSOR_RAW, Value::Bytes(bytes)) => raw = bytes,
            (TENSOR_FLOATS, Value::Bytes(bytes)) => floats.extend(floats_of(bytes)?),
            (TENSOR_INTS, value) => value.numbers(&mut ints)?,
            (TENSOR_LOCATION, Value::Number(number)) if number != 0 => {
                return Err("its weights stand in another file");
            }
            _ => {}
        }
        Ok(())
    })?;
    let dims: Option<Vec<usize>> = dims.into_iter().map(|dim| usize::try_from(dim).ok()).collect();
    let dims = dims.filter(|dims| dims.len() <= DIMS_MAX).ok_or("a tensor has odd dimensions")?;
    let values = match dtype {
        FLOAT if raw.is_empty() => Values::Floats(floats),
        FLOAT => Values::Floats(floats_of(raw)?),
        UINT8 if raw.is_empty() => {
            let bytes: Result<Vec<u8>, _> = ints.into_iter().map(u8::try_from).collect();
            Values::Bytes(bytes.map_err(|_| "a byte is out of range")?)
        }
        UINT8 => Values::Bytes(raw.to_vec()),
        _ => Values::Other,
    };
    let count = dims.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
    let held = match &values {
        Values::Floats(floats) => Some(floats.len()),
        Values::Bytes(bytes) => Some(bytes.len()),
        Values::Other => count,
    };
    if held != count {
        return Err("a tensor's numbers do not fill its dimensions");
    }
    Ok((name, Initialiser { dims, values }))
}

fn each<'a>(bytes: &'a [u8], mut take: impl FnMut(u64, Value<'a>) -> Read<()>) -> Read<()> {
    let mut fields = Fields(bytes);
    while !fields.0.is_empty() {
        let key = fields.varint()?;
        let value = match key & 7 {
            0 => Value::Number(fields.varint()?),
            1 => Value::Bytes(fields.take(8)?),
            2 => {
                let length = usize::try_from(fields.varint()?).map_err(|_| "a length is out of range")?;
                Value::Bytes(fields.take(length)?)
            }
            5 => Value::Bytes(fields.take(4)?),
            _ => return Err("a field is of a kind that is not known"),
        };
        take(key >> 3, value)?;
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Read<String> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| "a name is not UTF-8")
}

fn floats_of(bytes: &[u8]) -> Read<Vec<f32>> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    if rest.is_empty() {
        Ok(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    } else {
        Err("a list of floats is cut")
    }
}

// === impl Value ===

impl Value<'_> {
    /// Adds a number, or many where they are packed.
    fn numbers(self, into: &mut Vec<u64>) -> Read<()> {
        match self {
            Self::Number(number) => into.push(number),
            Self::Bytes(bytes) => {
                let mut fields = Fields(bytes);
                while !fields.0.is_empty() {
                    into.push(fields.varint()?);
                }
            }
        }
        Ok(())
    }
}

// === impl Fields ===

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("it is cut")?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Read<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take(1)? else { return Err("it is cut") };
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number is longer than 64 bits")
    }
}
