//! An Auto Scaling group whose instances wait in their hooks, since nothing emulates that.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use aws_sdk_autoscaling::primitives::{DateTime, DateTimeFormat as Format};
use axum::{
    Router,
    extract::{Form, State},
    http::StatusCode,
    routing::post,
};
use tokio::{
    net::TcpListener,
    sync::oneshot::{Receiver, Sender, channel},
    task::JoinHandle,
};

/// The group's name.
pub const HOOKED: &str = "hooked";

/// Answers as Auto Scaling does to the calls of an autoscaler. It launches and ends nothing: its
/// instances are in the states that they are put into.
#[derive(Debug)]
pub struct HookedGroup {
    url: String,
    state: Shared,
    server: JoinHandle<()>,
}

type Shared = Arc<Mutex<Known>>;

#[derive(Debug, Default)]
struct Known {
    desired: u32,
    /// Id and lifecycle state.
    instances: Vec<(String, String)>,
    calls: Vec<String>,
    /// Whether its instances are protected from scale-in.
    protects: bool,
    /// When launches failed for want of capacity; `None` where there is enough.
    failed: Option<Vec<SystemTime>>,
    /// The look that is not answered yet: who waits for it is told when it came, and says until when.
    slow: Option<(Sender<()>, Receiver<()>)>,
}

/// A look at a group that is kept waiting for its answer until this is dropped.
#[derive(Debug)]
pub struct SlowLook {
    came: Receiver<()>,
    _until: Sender<()>,
}

impl SlowLook {
    /// Waits until somebody looks.
    ///
    /// # Panics
    /// When nobody does for a minute.
    pub async fn came(&mut self) {
        let came = tokio::time::timeout(Duration::from_secs(60), &mut self.came).await;
        came.expect("a look within a minute").expect("a group that is there");
    }
}

impl HookedGroup {
    /// Starts it with these instances and as many desired as it is told.
    pub async fn start(desired: u32, instances: &[(&str, &str)]) -> Self {
        let own = |(id, state): &(&str, &str)| ((*id).to_owned(), (*state).to_owned());
        let instances = instances.iter().map(own).collect();
        let known = Known { desired, instances, ..Known::default() };
        let state: Shared = Arc::new(Mutex::new(known));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let app = Router::new().route("/", post(answer)).with_state(state.clone());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("served") });
        Self { url, state, server }
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on its instances are protected from scale-in.
    pub fn protects(&self) {
        known(&self.state).protects = true;
    }

    /// From now on its launches fail.
    pub fn has_no_capacity(&self) {
        known(&self.state).failed = Some(Vec::new());
    }

    /// Keeps the next look at it waiting.
    pub fn slow_look(&self) -> SlowLook {
        let ((told, came), (until, over)) = (channel(), channel());
        known(&self.state).slow = Some((told, over));
        SlowLook { came, _until: until }
    }

    /// How many instances it was told to have.
    pub fn desired(&self) -> u32 {
        known(&self.state).desired
    }

    /// The calls that changed anything.
    pub fn calls(&self) -> Vec<String> {
        known(&self.state).calls.clone()
    }
}

impl Drop for HookedGroup {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn known(state: &Shared) -> MutexGuard<'_, Known> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(
    State(state): State<Shared>,
    Form(form): Form<HashMap<String, String>>,
) -> Result<String, StatusCode> {
    let action = form.get("Action").ok_or(StatusCode::BAD_REQUEST)?;
    let slow = match action.as_str() {
        "DescribeAutoScalingGroups" => known(&state).slow.take(),
        _ => None,
    };
    if let Some((told, over)) = slow {
        // Nobody may wait for either any more.
        let _ = (told.send(()), over.await);
    }
    let mut state = known(&state);
    let result = match action.as_str() {
        "DescribeAutoScalingGroups" => described(&state),
        "DescribeScalingActivities" => activities(&state),
        "SetDesiredCapacity" => {
            let desired = form.get("DesiredCapacity").and_then(|it| it.parse().ok());
            state.desired = desired.ok_or(StatusCode::BAD_REQUEST)?;
            if let Some(failed) = &mut state.failed {
                // Those that began in the second of the autoscaler's start are none of its own.
                failed.push(SystemTime::now() + Duration::from_secs(1));
            }
            let call = format!("{action} {}", state.desired);
            state.calls.push(call);
            String::new()
        }
        "CompleteLifecycleAction" => {
            let said = ["LifecycleHookName", "InstanceId"].map(|it| form.get(it).cloned());
            let said = said.map(Option::unwrap_or_default).join(" ");
            state.calls.push(format!("{action} {said}"));
            String::new()
        }
        _ => {
            state.calls.push(action.clone());
            String::new()
        }
    };
    Ok(format!(
        "<{action}Response xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\">\
         <{action}Result>{result}</{action}Result>\
         <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{action}Response>"
    ))
}

/// The launches that failed, in the words of Auto Scaling.
fn activities(state: &Known) -> String {
    let member = |(number, at): (usize, &SystemTime)| {
        let at = DateTime::from(*at).fmt(Format::DateTime).unwrap_or_default();
        format!(
            "<member><ActivityId>a-{number}</ActivityId><AutoScalingGroupName>{HOOKED}\
             </AutoScalingGroupName><Cause>c</Cause><StartTime>{at}</StartTime>\
             <StatusCode>Failed</StatusCode><StatusMessage>We currently do not have sufficient \
             c7g.large capacity in the Availability Zone you requested. Launching EC2 instance \
             failed.</StatusMessage></member>"
        )
    };
    let failed = state.failed.iter().flatten().enumerate();
    format!("<Activities>{}</Activities>", failed.map(member).collect::<String>())
}

fn described(state: &Known) -> String {
    let member = |(id, lifecycle): &(String, String)| {
        format!(
            "<member><InstanceId>{id}</InstanceId><InstanceType>c7g.large</InstanceType>\
             <AvailabilityZone>us-east-1a</AvailabilityZone><LifecycleState>{lifecycle}</LifecycleState>\
             <HealthStatus>Healthy</HealthStatus><ProtectedFromScaleIn>{}</ProtectedFromScaleIn>\
             </member>",
            state.protects
        )
    };
    let instances: String = state.instances.iter().map(member).collect();
    format!(
        "<AutoScalingGroups><member><AutoScalingGroupName>{HOOKED}</AutoScalingGroupName>\
         <MinSize>0</MinSize><MaxSize>9</MaxSize><DesiredCapacity>{}</DesiredCapacity>\
         <NewInstancesProtectedFromScaleIn>{}</NewInstancesProtectedFromScaleIn>\
         <Instances>{instances}</Instances></member></AutoScalingGroups>",
        state.desired, state.protects
    )
}
