//! Queues that the fleet's template does not have: FIFO ones, and second ones for priorities.

use std::time::Duration;

use flotilla_cli::aws::Clients;

use crate::wait::eventually;

/// A queue and its dead-letter queue, in a stack of their own.
#[derive(Debug, Clone)]
pub struct Queues {
    /// The URL of the queue.
    pub url: String,
    /// The URL of its dead-letter queue.
    pub dead_url: String,
    stack: String,
}

impl Queues {
    /// Creates them from a template; `suffix` is `.fifo`, or nothing.
    pub(crate) async fn create(aws: &Clients, stack: String, suffix: &str) -> Self {
        let call = aws.cfn.create_stack().stack_name(&stack).template_body(template(suffix));
        call.send().await.expect("CreateStack");
        eventually("a stack of queues", Duration::from_secs(60), async || {
            let answer = aws.cfn.describe_stacks().stack_name(&stack).send().await.ok()?;
            let status = answer.stacks.unwrap_or_default().pop()?.stack_status?;
            (status.as_str() == "CREATE_COMPLETE").then_some(())
        })
        .await;
        let url = async |name: String| {
            let answer = aws.sqs.get_queue_url().queue_name(name).send().await;
            answer.expect("GetQueueUrl").queue_url.expect("a URL")
        };
        let dead_url = url(format!("{stack}-dead{suffix}")).await;
        Self { url: url(format!("{stack}{suffix}")).await, dead_url, stack }
    }

    /// Deletes them.
    pub(crate) async fn delete(self, aws: &Clients) {
        aws.cfn.delete_stack().stack_name(&self.stack).send().await.expect("DeleteStack");
    }

    /// Sends a message; on a FIFO queue one without a name of its own would be taken for another
    /// of the same body.
    ///
    /// # Panics
    /// When the endpoint does not take it.
    pub async fn send(&self, aws: &Clients, group: Option<&str>, body: &str) {
        let call = aws.sqs.send_message().queue_url(&self.url).message_body(body);
        let call = call.set_message_group_id(group.map(str::to_owned));
        let name = uuid::Uuid::new_v4().to_string();
        let name = self.url.ends_with(".fifo").then_some(name);
        call.set_message_deduplication_id(name).send().await.expect("SendMessage");
    }
}

fn template(suffix: &str) -> String {
    let fifo = if suffix.is_empty() { "" } else { "\n      FifoQueue: true" };
    format!(
        r#"AWSTemplateFormatVersion: "2010-09-09"
Resources:
  Queue:
    Type: AWS::SQS::Queue
    Properties:{fifo}
      QueueName: !Sub "${{AWS::StackName}}{suffix}"
      RedrivePolicy:
        deadLetterTargetArn: !GetAtt Dead.Arn
        maxReceiveCount: 1000
  Dead:
    Type: AWS::SQS::Queue
    Properties:{fifo}
      QueueName: !Sub "${{AWS::StackName}}-dead{suffix}"
"#
    )
}
