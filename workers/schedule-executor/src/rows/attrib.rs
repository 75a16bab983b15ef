//! What a context says of a resource beside its id: words that its kind reads.

use super::Service;

/// Whether a kind reads every word of an attribute: `hibernate`, `types=m5a.large,m6i.large` of
/// instances, `size=min/max/desired` of groups, `count=N` of ECS services.
///
/// # Errors
/// When it does not, with the words that there are.
pub fn check(service: Service, text: &str) -> Result<(), String> {
    let (forms, known): (&str, fn(&str) -> bool) = match service {
        Service::Ec2 => ("`hibernate` and `types=TYPE,…`", of_instance),
        Service::Group => ("`size=MIN/MAX/DESIRED`, each no less than the one below it", of_group),
        Service::Ecs => ("`count=N`", of_service),
        // A class is for MODCLASS, which no context asks for.
        Service::Rds | Service::Cluster | Service::AppStream => ("none", |_| false),
    };
    match text.split_whitespace().find(|word| !known(word)) {
        None => Ok(()),
        Some(word) => {
            let word: String = word.chars().take(100).collect();
            Err(format!(
                "`attrib`: {} does not read {word:?}: its words are {forms}",
                service.name()
            ))
        }
    }
}

fn of_instance(word: &str) -> bool {
    let types = word.strip_prefix("types=");
    word == "hibernate" || types.is_some_and(|it| it.split(',').all(|it| !it.is_empty()))
}

fn of_group(word: &str) -> bool {
    let Some(size) = word.strip_prefix("size=") else { return false };
    let numbers = size.split('/').map(str::parse::<i32>).collect::<Result<Vec<_>, _>>();
    matches!(numbers.as_deref(), Ok([min, max, desired])
        if 0 <= *min && min <= desired && desired <= max)
}

fn of_service(word: &str) -> bool {
    let count = word.strip_prefix("count=").and_then(|it| it.parse::<i32>().ok());
    count.is_some_and(|count| count >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_no_kind_reads_is_refused_with_those_that_there_are() {
        for (service, good) in [
            (Service::Ec2, ""),
            (Service::Ec2, "hibernate types=m5a.large,m6i.large"),
            (Service::Group, "size=1/4/2"),
            (Service::Ecs, "count=3"),
        ] {
            assert_eq!(check(service, good), Ok(()), "{good}");
        }
        for (service, bad) in [
            (Service::Ec2, "hibernte"),
            (Service::Ec2, "types="),
            (Service::Group, "size=4/1/2"),
            (Service::Group, "size=1/2/3"),
            (Service::Group, "size=1/4"),
            (Service::Ecs, "count=-1"),
            (Service::Rds, "hibernate"),
        ] {
            let why = check(service, bad).unwrap_err();
            assert!(why.contains(bad) && why.contains("words"), "{why}");
        }
    }
}
