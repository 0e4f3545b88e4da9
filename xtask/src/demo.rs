//! `cargo xtask demo`: a node on this machine, a model on it, predictions, and the ledger that proves it all.

mod node;

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use self::node::{Node, Stop};
use crate::{
    setup::{Environment, stamp},
    shell,
    workspace::Workspace,
};

/// Everything the demo makes, below `target/demo`.
struct Demo<'a> {
    workspace: &'a Workspace,
    environment: &'a Environment,
    folder: PathBuf,
}

/// Shows Mantlet at work; stays up until told to stop, unless `once`.
pub(crate) fn run(workspace: &Workspace, once: bool) -> Result<()> {
    let environment = Environment::prepare(workspace)?;
    let demo = Demo { workspace, environment: &environment, folder: workspace.target.join("demo") };
    shell::run("build Mantlet", environment.cargo().args(["build", "--release", "-p", "mantlet"]))?;
    demo.make_example()?;
    demo.clear()?;
    let stop = Stop::listen()?;
    let mut node = shell::step("start a node", || demo.start())?;
    demo.show()?;
    if !once {
        demo.say_what_next();
        stop.wait(&mut node)?;
    }
    shell::step("stop the node", || node.stop())
}

impl Demo<'_> {
    fn make_example(&self) -> Result<()> {
        let script = self.workspace.root.join("examples/healthcare/make.py");
        shell::run(
            "make the healthcare example",
            self.environment.python().arg(script).arg(self.folder.join("healthcare")),
        )
    }

    /// Starts afresh each time; never under the feet of a node that still runs.
    fn clear(&self) -> Result<()> {
        let data = self.folder.join("node");
        if data.join("client.json").exists() && shell::works(self.mantlet().arg("models")) {
            anyhow::bail!("a node still runs on `{}`: stop it first", self.workspace.shown(&data));
        }
        stamp::remove(&data)?;
        stamp::remove(&self.folder.join("ledger"))
    }

    fn start(&self) -> Result<Node> {
        let mut command = self.environment.command(self.binary());
        command.arg("up").arg("--data-dir").arg(self.folder.join("node")).args(["--listen", "127.0.0.1:0"]);
        let mut node = Node::start(&mut command, &self.folder.join("node.log"))?;
        node.wait_until("it listens", || self.folder.join("node/client.json").exists())?;
        node.wait_until("it answers", || shell::works(self.mantlet().arg("models")))?;
        Ok(node)
    }

    fn show(&self) -> Result<()> {
        let (example, ledger) = (self.folder.join("healthcare"), self.folder.join("ledger"));
        let deploy = ["deploy"].map(Into::into).into_iter().chain([example.join("manifest.yaml")]);
        shell::run("deploy the model", self.mantlet().args(deploy).arg("--wait"))?;
        let mut predict = self.environment.python();
        predict.arg(self.workspace.root.join("testkit/python/demo.py")).arg("--data-dir").arg(self.folder.join("node"));
        predict.args(["--name", "tumour", "--rows"]).arg(example.join("rows.npz"));
        shell::run("predict every row, by REST and by gRPC", &mut predict)?;
        shell::run("export the ledger", self.mantlet().args(["audit", "export"]).arg(&ledger))?;
        let mut verify = self.mantlet();
        verify.args(["audit", "verify"]).arg(&ledger).arg("--key").arg(self.folder.join("node/log.key"));
        shell::run("verify the ledger, without the node", &mut verify)?;
        let records = ledger.join("records.ndjson");
        let text = fs::read_to_string(&records).with_context(|| format!("`{}` can't be read", records.display()))?;
        println!("{}", deploy_record(&text).context("the ledger has no record of the deploy")?);
        Ok(())
    }

    fn say_what_next(&self) {
        let shown = |path: &str| self.workspace.shown(&self.folder.join(path));
        let mantlet = format!("{} --data-dir {}", self.workspace.shown(&self.binary()), shown("node"));
        println!("\nThe node is up. Try in another terminal:");
        println!("  {mantlet} predict tumour --input {}", shown("healthcare/request.json"));
        println!("  {mantlet} models");
        println!("  {mantlet} audit export {}", shown("ledger-now"));
        println!("Its log: {}. Ctrl-C stops it.", shown("node.log"));
    }

    fn mantlet(&self) -> Command {
        let mut command = self.environment.command(self.binary());
        command.arg("--data-dir").arg(self.folder.join("node"));
        command
    }

    fn binary(&self) -> PathBuf {
        self.workspace.target.join("release/mantlet")
    }
}

/// The record of a deploy, as it stands in the ledger.
fn deploy_record(records: &str) -> Option<&str> {
    let is_deploy = |line: &&str| {
        let record = serde_json::from_str::<serde_json::Value>(line).unwrap_or_default();
        record.get("action").and_then(|action| action.as_str()) == Some("model.deploy")
    };
    records.lines().find(is_deploy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_of_the_deploy_is_found_among_others() {
        let records = "{\"action\":\"node.start\"}\nno json\n{\"v\":1,\"action\":\"model.deploy\"}\n";
        assert_eq!(deploy_record(records), Some("{\"v\":1,\"action\":\"model.deploy\"}"));
        assert_eq!(deploy_record("{\"action\":\"caller.add\"}\n"), None);
    }
}
