//! EC2, RDS and their tags, by moto.

use std::{io::Write, net::TcpListener, os::unix::net::UnixStream, time::Duration};

use crate::wait::{eventually, http};

/// A moto of its own for a test; ends with it.
#[derive(Debug)]
pub struct Moto {
    /// It ends when this is closed.
    _life: UnixStream,
    addr: String,
}

impl Moto {
    /// Asks for one at the socket that `FLOTILLA_MOTO` names.
    ///
    /// # Panics
    /// When there is none, or it does not start.
    pub async fn start() -> Self {
        let socket = std::env::var_os("FLOTILLA_MOTO");
        let socket = socket.expect("FLOTILLA_MOTO is not set: run the tests with `make test`");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
        let port = port.expect("a free port").port();
        let mut life = eventually("deploy/dev/moto-forks", Duration::from_secs(20), async || {
            UnixStream::connect(&socket).ok()
        })
        .await;
        writeln!(life, "{port}").expect("a port is taken");
        let moto = Self { _life: life, addr: format!("127.0.0.1:{port}") };
        eventually("moto", Duration::from_secs(60), async || {
            http("GET", &moto.addr, "/moto-api/config", &[], "").await
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
        self.call_as("test", service, region, query).await
    }

    /// The same with another access key: one of a role is in the role's account.
    ///
    /// # Panics
    /// When the call is refused.
    pub async fn call_as(&self, key: &str, service: &str, region: &str, query: &str) -> String {
        let credential = format!(
            "AWS4-HMAC-SHA256 Credential={key}/20260101/{region}/{service}/aws4_request, \
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

    /// An access key of another account.
    pub async fn key_of(&self, account: &str) -> String {
        let query = format!(
            "Action=AssumeRole&Version=2011-06-15&RoleSessionName=t\
             &RoleArn=arn:aws:iam::{account}:role/test"
        );
        let answer = self.call("sts", "us-east-1", &query).await;
        between(&answer, "<AccessKeyId>", "</AccessKeyId>").expect("an access key")
    }

    /// Runs an instance with a tag `env`, and gives its id.
    pub async fn instance(&self, region: &str, env: &str) -> String {
        self.instance_as("test", region, env).await
    }

    /// The same with another access key.
    pub async fn instance_as(&self, key: &str, region: &str, env: &str) -> String {
        let query = format!(
            "Action=RunInstances&Version=2016-11-15&ImageId=ami-12345678&MinCount=1&MaxCount=1\
             &TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=env\
             &TagSpecification.1.Tag.1.Value={env}"
        );
        let answer = self.call_as(key, "ec2", region, &query).await;
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
        self.instance_state_as("test", region, id).await
    }

    /// The same with another access key.
    pub async fn instance_state_as(&self, key: &str, region: &str, id: &str) -> String {
        let query = format!("Action=DescribeInstances&Version=2016-11-15&InstanceId.1={id}");
        let answer = self.call_as(key, "ec2", region, &query).await;
        let state = between(&answer, "<instanceState>", "</instanceState>").expect("a state");
        between(&state, "<name>", "</name>").expect("a name")
    }

    /// Stops an instance, as somebody would by hand.
    pub async fn stop_instance(&self, region: &str, id: &str) {
        let query = format!("Action=StopInstances&Version=2016-11-15&InstanceId.1={id}");
        self.call("ec2", region, &query).await;
    }

    /// Starts an instance, as somebody would by hand.
    pub async fn start_instance(&self, region: &str, id: &str) {
        let query = format!("Action=StartInstances&Version=2016-11-15&InstanceId.1={id}");
        self.call("ec2", region, &query).await;
    }

    /// Creates an Auto Scaling group of this size, with a tag `env`.
    pub async fn group(&self, region: &str, name: &str, (min, max, desired): (u8, u8, u8)) {
        let query = format!(
            "Action=CreateLaunchConfiguration&Version=2011-01-01&LaunchConfigurationName=lc-{name}\
             &ImageId=ami-12345678&InstanceType=t3.micro"
        );
        self.call("autoscaling", region, &query).await;
        let query = format!(
            "Action=CreateAutoScalingGroup&Version=2011-01-01&AutoScalingGroupName={name}\
             &LaunchConfigurationName=lc-{name}&MinSize={min}&MaxSize={max}&DesiredCapacity={desired}\
             &AvailabilityZones.member.1={region}a&Tags.member.1.Key=env&Tags.member.1.Value=group\
             &Tags.member.1.PropagateAtLaunch=false&Tags.member.1.ResourceId={name}\
             &Tags.member.1.ResourceType=auto-scaling-group"
        );
        self.call("autoscaling", region, &query).await;
    }

    /// Least, most and desired size of a group.
    pub async fn group_size(&self, region: &str, name: &str) -> (String, String, String) {
        let query = format!(
            "Action=DescribeAutoScalingGroups&Version=2011-01-01&AutoScalingGroupNames.member.1={name}"
        );
        let answer = self.call("autoscaling", region, &query).await;
        let text = |name: &str| between(&answer, &format!("<{name}>"), &format!("</{name}>"));
        let text = |name| text(name).expect("a size");
        (text("MinSize"), text("MaxSize"), text("DesiredCapacity"))
    }

    /// Creates an Aurora cluster.
    pub async fn cluster(&self, region: &str, id: &str) {
        let query = format!(
            "Action=CreateDBCluster&Version=2014-10-31&DBClusterIdentifier={id}\
             &Engine=aurora-postgresql&MasterUsername=root&MasterUserPassword=hunter2hunter2"
        );
        self.call("rds", region, &query).await;
    }

    /// The status of a cluster.
    pub async fn cluster_state(&self, region: &str, id: &str) -> String {
        let query =
            format!("Action=DescribeDBClusters&Version=2014-10-31&DBClusterIdentifier={id}");
        let answer = self.call("rds", region, &query).await;
        // Its instances may have a status too, which comes after the cluster's own.
        between(&answer, "<Status>", "</Status>").expect("a status")
    }

    /// Calls an action of ECS, which speaks JSON; gives the answer.
    ///
    /// # Panics
    /// When the call is refused.
    pub async fn ecs(&self, action: &str, body: serde_json::Value) -> serde_json::Value {
        let target = format!("AmazonEC2ContainerServiceV20141113.{action}");
        let credential = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/ecs/aws4_request, \
             SignedHeaders=host, Signature=none";
        let headers = [
            ("Authorization", credential),
            ("Content-Type", "application/x-amz-json-1.1"),
            ("X-Amz-Target", target.as_str()),
        ];
        let answer = http("POST", &self.addr, "/", &headers, &body.to_string()).await;
        let (status, body) = answer.expect("moto answers");
        assert_eq!(status, 200, "{action}: {body}");
        serde_json::from_str(&body).expect("JSON")
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
