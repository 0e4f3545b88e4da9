//! Unmodified clients of other people, run by the Python that `cargo xtask` set up.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "helpers of tests: failing loudly is their job")]

use std::process::Command;

use testkit::{Node, setup};

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");

/// Runs a script of `testkit/python` against a new node; it must end well and print `expected`.
async fn script(test: &str, name: &str, arguments: &[&str], expected: &str) {
    let (Some(python), Some(_)) = (setup::python(), setup::onnxruntime()) else {
        return setup::skip(test, "Python or ONNX Runtime's library is not set up: cargo xtask setup");
    };
    let node = Node::start(BINARY).await;
    let output = Command::new(python)
        .arg(setup::root().join("testkit/python").join(name))
        .arg("--data-dir")
        .arg(node.dir())
        .args(["--mantlet", BINARY])
        .args(arguments)
        .env("ORT_DISABLE_TELEMETRY", "1")
        .env_remove("MANTLET_DATA_DIR")
        .output()
        .expect("Python can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    println!("{}", text.lines().rev().take(3).collect::<Vec<_>>().join("\n"));
    assert!(output.status.success() && text.contains(expected), "{text}\n{error}\n{}", node.log());
}

#[tokio::test]
async fn triton_and_kserve_clients_get_what_onnx_runtime_gives() {
    const TEST: &str = "python::triton_and_kserve_clients";
    let Some(models) = setup::models() else {
        return setup::skip(TEST, "the example models are not made: cargo xtask test makes them");
    };
    let mut arguments = vec!["--models", models.to_str().unwrap()];
    let data = setup::data();
    match &data {
        Some(data) => arguments.extend(["--shared", data.to_str().unwrap()]),
        None => setup::skip(TEST, "the models of the data folder are left out: MANTLET_DATA names no folder"),
    }
    script(TEST, "conformance.py", &arguments, "all equal").await;
}

#[tokio::test]
async fn what_triton_s_examples_do_works() {
    script("python::what_triton_s_examples_do", "triton_examples.py", &[], ", 0 failed").await;
}

#[tokio::test]
async fn the_model_signing_tool_agrees() {
    script("python::the_model_signing_tool_agrees", "signing.py", &[], ", 0 failed").await;
}

#[test]
fn bundles_of_the_model_signing_tool_verify_here() {
    use std::{collections::BTreeMap, fs};

    use access::signing::{PublicKey, verify};
    use types::Digest;

    let Some(python) = setup::python() else {
        return setup::skip("python::bundles_of_the_model_signing_tool", "Python is not set up: cargo xtask setup");
    };
    let dir = tempfile::tempdir().unwrap();
    let script = setup::root().join("testkit/python/signing.py");
    let output = Command::new(python).arg(script).arg("make").arg(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let key = PublicKey::parse(&fs::read_to_string(dir.path().join("key.pub")).unwrap()).unwrap();
    let stranger = access::signing::Key::generate().unwrap().public().unwrap();

    let mut files = BTreeMap::new();
    let mut folders = vec![dir.path().join("model")];
    let root = dir.path().join("model");
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name() != Some("model.sig".as_ref()) {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                files.insert(name, Digest::of(&fs::read(&path).unwrap()));
            }
        }
    }
    assert!(files.len() >= 2, "{files:?}");
    let signature = fs::read(dir.path().join("model.sig")).unwrap();
    verify(&signature, std::slice::from_ref(&key), &files).unwrap();
    assert!(verify(&signature, &[stranger], &files).is_err());
    for name in files.keys() {
        let mut changed = files.clone();
        changed.insert(name.clone(), Digest::of(b"something else"));
        assert!(verify(&signature, std::slice::from_ref(&key), &changed).is_err(), "{name}");
    }
}
