//! EC2, RDS and their tags, by moto.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::wait::{eventually, http};

/// A moto of its own for a test; ends with it.
#[derive(Debug)]
pub struct Moto {
    child: Child,
    addr: String,
}

impl Moto {
    /// Starts the server that `FLOTILLA_MOTO` names.
    ///
    /// # Panics
    /// When there is none, or it does not start.
    pub async fn start() -> Self {
        let program = std::env::var_os("FLOTILLA_MOTO");
        let program = program.expect("FLOTILLA_MOTO is not set: run the tests with `make test`");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
        let port = port.expect("a free port").port().to_string();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &port]).env("MOTO_EC2_LOAD_DEFAULT_AMIS", "false");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("moto starts");
        let moto = Self { child, addr: format!("127.0.0.1:{port}") };
        eventually("moto", Duration::from_secs(60), async || {
            let answer = http("GET", &moto.addr, "/moto-api/data.json", &[], "").await?;
            (answer.0 == 200).then_some(())
        })
        .await;
        moto
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Calls an action of a service's query API in a region; gives the XML of the answer.
    ///
    /// # Panics
    /// When the call is refused.
    pub async fn call(&self, service: &str, region: &str, query: &str) -> String {
        let credential = format!(
            "AWS4-HMAC-SHA256 Credential=test/20260101/{region}/{service}/aws4_request, \
             SignedHeaders=host, Signature=none"
        );
        let headers = [
            ("Authorization", credential.as_str()),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        let (status, body) =
            http("POST", &self.addr, "/", &headers, query).await.expect("moto answers");
        assert_eq!(status, 200, "{query}: {body}");
        body
    }

    /// Runs an instance with a tag `env`, and gives its id.
    pub async fn instance(&self, region: &str, env: &str) -> String {
        let query = format!(
            "Action=RunInstances&Version=2016-11-15&ImageId=ami-12345678&MinCount=1&MaxCount=1\
             &TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=env\
             &TagSpecification.1.Tag.1.Value={env}"
        );
        let answer = self.call("ec2", region, &query).await;
        between(&answer, "<instanceId>", "</instanceId>").expect("an instance id")
    }

    /// The id of a security group in the region of the tests.
    pub async fn security_group(&self) -> String {
        let query = "Action=DescribeSecurityGroups&Version=2016-11-15";
        let answer = self.call("ec2", "us-east-1", query).await;
        between(&answer, "<groupId>", "</groupId>").expect("a security group")
    }

    /// The id of a subnet in the region of the tests.
    pub async fn subnet(&self) -> String {
        let query = "Action=DescribeSubnets&Version=2016-11-15";
        let answer = self.call("ec2", "us-east-1", query).await;
        between(&answer, "<subnetId>", "</subnetId>").expect("a subnet")
    }

    /// The state of an instance: `running`, `stopped`.
    pub async fn instance_state(&self, region: &str, id: &str) -> String {
        let query = format!("Action=DescribeInstances&Version=2016-11-15&InstanceId.1={id}");
        let answer = self.call("ec2", region, &query).await;
        let state = between(&answer, "<instanceState>", "</instanceState>").expect("a state");
        between(&state, "<name>", "</name>").expect("a name")
    }

    /// Stops an instance, as somebody would by hand.
    pub async fn stop_instance(&self, region: &str, id: &str) {
        let query = format!("Action=StopInstances&Version=2016-11-15&InstanceId.1={id}");
        self.call("ec2", region, &query).await;
    }

    /// Creates an RDS instance.
    pub async fn database(&self, region: &str, id: &str) {
        let query = format!(
            "Action=CreateDBInstance&Version=2014-10-31&DBInstanceIdentifier={id}\
             &DBInstanceClass=db.t3.micro&Engine=postgres&AllocatedStorage=10\
             &MasterUsername=root&MasterUserPassword=hunter2hunter2"
        );
        self.call("rds", region, &query).await;
    }

    /// Status and class of an RDS instance.
    pub async fn database_state(&self, region: &str, id: &str) -> (String, String) {
        let query =
            format!("Action=DescribeDBInstances&Version=2014-10-31&DBInstanceIdentifier={id}");
        let answer = self.call("rds", region, &query).await;
        let text = |name: &str| between(&answer, &format!("<{name}>"), &format!("</{name}>"));
        (text("DBInstanceStatus").expect("a status"), text("DBInstanceClass").expect("a class"))
    }
}

fn between(text: &str, start: &str, end: &str) -> Option<String> {
    let rest = text.split_once(start)?.1;
    Some(rest.split_once(end)?.0.to_owned())
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
