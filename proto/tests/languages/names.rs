//! The names in generated code, by the rules of each language's generator: no name stands for two
//! things. The test computes the names, so that it covers languages whose generators are not
//! installed.

use std::collections::BTreeMap;

use prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind,
    MessageDescriptor,
};

use crate::root;

/// The names of one scope, each with the thing that it stands for.
struct Scope {
    language: &'static str,
    place: String,
    /// Names that differ only in case clash too, because they are names of files.
    folds_case: bool,
    names: BTreeMap<String, String>,
}

impl Scope {
    fn new(language: &'static str, place: impl Into<String>) -> Self {
        Self { language, place: place.into(), folds_case: false, names: BTreeMap::new() }
    }

    fn add(&mut self, name: String, stands_for: &str) {
        let key = if self.folds_case { name.to_lowercase() } else { name.clone() };
        let Scope { language, place, .. } = self;
        assert!(
            name.starts_with(|first: char| first.is_alphabetic()),
            "{language}, {place}: `{name}` is no name"
        );
        if let Some(other) = self.names.insert(key, stands_for.to_owned()) {
            panic!("{language}, {place}: `{name}` stands for {other} and for {stands_for}");
        }
    }
}

fn pool() -> DescriptorPool {
    let files =
        protox::compile(["celeriac/v1/frame.proto"], [root()]).expect("the .proto files compile");
    DescriptorPool::from_file_descriptor_set(files).expect("they are complete")
}

/// All messages, including nested ones, without the entries of maps, which no generator names.
fn messages(pool: &DescriptorPool) -> Vec<MessageDescriptor> {
    let all: Vec<_> = pool.all_messages().filter(|message| !message.is_map_entry()).collect();
    assert!(all.len() > 70, "the messages are found: {}", all.len());
    all
}

fn enums(pool: &DescriptorPool) -> Vec<EnumDescriptor> {
    let all: Vec<_> = pool.all_enums().collect();
    assert!(all.len() > 8, "the enums are found: {}", all.len());
    all
}

/// The name below the package, with its parents in front.
fn path(full_name: &str) -> Vec<&str> {
    full_name.trim_start_matches("celeriac.v1.").split('.').collect()
}

fn joined(full_name: &str) -> String {
    path(full_name).join("_")
}

/// `frame` of `celeriac/v1/frame.proto`.
fn stem(file: &FileDescriptor) -> String {
    let name = file.name().rsplit('/').next().unwrap_or_default();
    name.trim_end_matches(".proto").to_owned()
}

/// `retry_after_ms` becomes `RetryAfterMs`.
fn upper_camel(text: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters
            .next()
            .map(|first| first.to_uppercase().chain(letters).collect::<String>())
            .unwrap_or_default()
    };
    text.split('_').map(capital).collect()
}

/// The oneofs in the .proto files, without the oneofs that protoc invents for optional fields.
fn oneofs(message: &MessageDescriptor) -> Vec<String> {
    message
        .oneofs()
        .filter(|oneof| !oneof.is_synthetic())
        .map(|oneof| oneof.name().to_owned())
        .collect()
}

fn in_oneof(field: &FieldDescriptor) -> bool {
    field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic())
}

/// One package holds everything; a nested name has its parent in front.
#[test]
fn no_name_of_go_stands_for_two_things() {
    let pool = pool();
    let mut package = Scope::new("Go", "package celeriacv1");
    for file in pool.files() {
        package.add(format!("File_celeriac_v1_{}_proto", stem(&file)), file.name());
    }
    for message in messages(&pool) {
        let name = joined(message.full_name());
        package.add(name.clone(), message.full_name());
        for oneof in oneofs(&message) {
            package.add(format!("is{name}_{}", upper_camel(&oneof)), message.full_name());
        }
        for field in message.fields().filter(in_oneof) {
            package.add(format!("{name}_{}", upper_camel(field.name())), field.full_name());
        }
        let mut methods = Scope::new("Go", message.full_name());
        for reserved in [
            "Reset",
            "String",
            "ProtoMessage",
            "ProtoReflect",
            "Descriptor",
            "Marshal",
            "Unmarshal",
        ] {
            methods.add(reserved.to_owned(), "a method of every message");
        }
        for name in message.fields().map(|field| field.name().to_owned()).chain(oneofs(&message)) {
            methods.add(upper_camel(&name), &name);
            methods.add(format!("Get{}", upper_camel(&name)), &name);
        }
    }
    for each in enums(&pool) {
        let name = joined(each.full_name());
        let before =
            each.parent_message().map_or_else(|| name.clone(), |parent| joined(parent.full_name()));
        package.add(name.clone(), each.full_name());
        package.add(format!("{name}_name"), each.full_name());
        package.add(format!("{name}_value"), each.full_name());
        for value in each.values() {
            package.add(format!("{before}_{}", value.name()), value.full_name());
        }
    }
}

/// Each class of the package is a file, and each .proto file becomes a class too.
#[test]
fn no_class_of_java_stands_for_two_things() {
    let pool = pool();
    let mut package = Scope { folds_case: true, ..Scope::new("Java", "package io.celeriac.v1") };
    for message in messages(&pool).iter().filter(|message| message.parent_message().is_none()) {
        package.add(message.name().to_owned(), message.full_name());
        package.add(format!("{}OrBuilder", message.name()), message.full_name());
    }
    for each in enums(&pool).iter().filter(|each| each.parent_message().is_none()) {
        package.add(each.name().to_owned(), each.full_name());
    }
    for file in pool.files() {
        let class = upper_camel(&stem(&file));
        let is_taken = file.messages().any(|message| message.name() == class)
            || file.enums().any(|e| e.name() == class);
        package.add(if is_taken { format!("{class}OuterClass") } else { class }, file.name());
    }
    for message in messages(&pool) {
        let mut nested = Scope::new("Java", message.full_name());
        nested.add("Builder".to_owned(), "the builder");
        for parent in path(message.full_name()) {
            nested.add(parent.to_owned(), "the class around it");
        }
        for oneof in oneofs(&message) {
            nested.add(format!("{}Case", upper_camel(&oneof)), &oneof);
        }
        for child in message.child_messages().filter(|child| !child.is_map_entry()) {
            nested.add(child.name().to_owned(), child.full_name());
            nested.add(format!("{}OrBuilder", child.name()), child.full_name());
        }
        message
            .child_enums()
            .for_each(|child| nested.add(child.name().to_owned(), child.full_name()));
    }
}

#[test]
fn no_getter_of_java_stands_for_two_things() {
    for message in messages(&pool()) {
        let mut getters = Scope::new("Java", message.full_name());
        for reserved in [
            "Class",
            "AllFields",
            "DescriptorForType",
            "ParserForType",
            "SerializedSize",
            "UnknownFields",
        ] {
            getters.add(reserved.to_owned(), "a getter of every message");
        }
        for oneof in oneofs(&message) {
            getters.add(format!("{}Case", upper_camel(&oneof)), &oneof);
        }
        for field in message.fields() {
            let mut suffixes = vec![""];
            match (field.is_map(), field.cardinality(), field.kind()) {
                (true, _, _) => suffixes.extend(["Count", "Map", "OrDefault", "OrThrow"]),
                (_, Cardinality::Repeated, _) => suffixes.extend(["Count", "List"]),
                (_, _, Kind::Message(_)) => suffixes.extend(["Builder", "OrBuilder"]),
                (_, _, Kind::String) => suffixes.push("Bytes"),
                (_, _, Kind::Enum(_)) => suffixes.push("Value"),
                _ => {}
            }
            for suffix in suffixes {
                getters.add(format!("{}{suffix}", upper_camel(field.name())), field.full_name());
            }
        }
    }
}

#[test]
fn no_name_of_csharp_stands_for_two_things() {
    let pool = pool();
    let mut namespace = Scope::new("C#", "namespace Celeriac.V1");
    pool.files().for_each(|file| {
        namespace.add(format!("{}Reflection", upper_camel(&stem(&file))), file.name())
    });
    for message in messages(&pool) {
        if message.parent_message().is_none() {
            namespace.add(message.name().to_owned(), message.full_name());
        }
        let mut members = Scope::new("C#", message.full_name());
        for reserved in
            ["Types", "Descriptor", "Parser", "Clone", "Equals", "ToString", "WriteTo", "MergeFrom"]
        {
            members.add(reserved.to_owned(), "a member of every message");
        }
        for oneof in oneofs(&message) {
            members.add(format!("{}Case", upper_camel(&oneof)), &oneof);
            members.add(format!("{}OneofCase", upper_camel(&oneof)), &oneof);
        }
        for field in message.fields() {
            let property = upper_camel(field.name());
            // protoc handles the one case that a compiler would refuse: a property with the name of
            // its class.
            let property =
                if property == message.name() { format!("{property}_") } else { property };
            members.add(format!("{property}FieldNumber"), field.full_name());
            members.add(format!("Has{property}"), field.full_name());
            members.add(format!("Clear{property}"), field.full_name());
            members.add(property, field.full_name());
        }
    }
    for each in enums(&pool).iter().filter(|each| each.parent_message().is_none()) {
        namespace.add(each.name().to_owned(), each.full_name());
    }
}

/// C#, TypeScript and Swift remove the name of the enum from the names of its values.
#[test]
fn values_of_enums_are_names_without_the_name_of_their_enum() {
    let mut shortened = 0;
    for each in enums(&pool()) {
        let mut values = Scope::new("C#", each.full_name());
        let prefix = shouted(each.name());
        for value in each.values() {
            let rest = value.name().strip_prefix(&prefix).and_then(|rest| rest.strip_prefix('_'));
            shortened += usize::from(rest.is_some());
            values
                .add(upper_camel(&rest.unwrap_or(value.name()).to_lowercase()), value.full_name());
        }
    }
    assert!(
        shortened > 50,
        "the names of the enums are found in those of their values: {shortened}"
    );
}

/// `TaskState` becomes `TASK_STATE`.
fn shouted(name: &str) -> String {
    let word = |(index, letter): (usize, char)| {
        let gap = (letter.is_uppercase() && index > 0).then_some('_');
        gap.into_iter().chain(letter.to_uppercase())
    };
    name.chars().enumerate().flat_map(word).collect()
}

/// Each .proto file becomes a module.
#[test]
fn no_name_of_typescript_stands_for_two_things() {
    let pool = pool();
    for file in pool.files() {
        let mut module = Scope::new("TypeScript", file.name());
        module.add(format!("file_celeriac_v1_{}", stem(&file)), file.name());
        let messages = messages(&pool).into_iter().filter(|message| message.parent_file() == file);
        let enums = enums(&pool).into_iter().filter(|each| each.parent_file() == file);
        let names = messages.map(|message| message.full_name().to_owned());
        for full_name in names.chain(enums.map(|each| each.full_name().to_owned())) {
            module.add(joined(&full_name), &full_name);
            module.add(format!("{}Schema", joined(&full_name)), &full_name);
        }
    }
}

/// protoc writes these names as they are, and then no program can use them.
#[test]
fn no_name_is_a_word_of_python() {
    const WORDS: [&str; 35] = [
        "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class",
        "continue", "def", "del", "elif", "else", "except", "finally", "for", "from", "global",
        "if", "import", "in", "is", "lambda", "nonlocal", "not", "or", "pass", "raise", "return",
        "try", "while", "with", "yield",
    ];
    let pool = pool();
    let mut names: Vec<String> = Vec::new();
    for message in messages(&pool) {
        names.push(message.name().to_owned());
        names.extend(message.fields().map(|field| field.name().to_owned()));
    }
    for each in enums(&pool) {
        names.push(each.name().to_owned());
        names.extend(each.values().map(|value| value.name().to_owned()));
    }
    for name in names {
        assert!(!WORDS.contains(&name.as_str()), "`{name}` is a word of Python");
    }
}
