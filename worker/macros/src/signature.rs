//! The parts of a function that the macro needs, and the checks whether the function can be a task.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::{FnArg, GenericArgument, ItemFn, Pat, PathArguments, ReturnType, Safety, Type};

use crate::parameter::{Given, Parameter, last_segment};

/// The longest tuple that serde reads.
const ARGUMENTS_MAX: usize = 16;

/// One argument of the task.
pub(crate) struct Argument {
    /// The name, by which a keyword argument finds its place. Empty when the parameter is a
    /// pattern.
    pub(crate) name: String,
    /// The type of the parameter.
    pub(crate) kind: Box<Type>,
    /// Whether the producer may leave the argument out: its type is an `Option`.
    pub(crate) optional: bool,
}

/// The return type of the function.
pub(crate) struct Output {
    /// The type of the task's result; `None` means `()`.
    pub(crate) value: Option<Box<Type>>,
    /// Whether the function returns a `Result`.
    pub(crate) fallible: bool,
}

/// A function that can be a task.
pub(crate) struct Signature {
    /// All parameters, in the function's order.
    pub(crate) parameters: Vec<Parameter>,
    /// The parameters that are arguments of the task.
    pub(crate) arguments: Vec<Argument>,
    /// The return type.
    pub(crate) output: Output,
    /// Whether the function is an `async fn`.
    pub(crate) asynchronous: bool,
}

impl Signature {
    /// Reads a function. Fails with the reason when it cannot be a task.
    pub(crate) fn parse(function: &ItemFn) -> syn::Result<Self> {
        // These refusals come first: they say more than an error in a parameter.
        refuse_qualifiers(function)?;
        let mut parameters = Vec::new();
        let mut arguments = Vec::new();
        for (index, input) in function.sig.inputs.iter().enumerate() {
            let parameter = match input {
                FnArg::Typed(parameter) => parameter,
                FnArg::Receiver(receiver) => {
                    return Err(syn::Error::new(
                        receiver.span(),
                        "a task is a free function and has no `self`",
                    ));
                }
            };
            // The context and the data are no arguments: the producer does not send them.
            let read = Parameter::of(&parameter.ty)?;
            match read.given {
                Given::Argument => arguments.push(argument(&parameter.pat, &parameter.ty)?),
                Given::Context if index > 0 => {
                    return Err(syn::Error::new(
                        parameter.ty.span(),
                        "the context is the first parameter",
                    ));
                }
                Given::Context | Given::Data(_) => {}
            }
            parameters.push(read);
        }
        // serde reads no longer tuples. A struct is one argument and has any number of fields.
        if let Some(extra) = arguments.get(ARGUMENTS_MAX) {
            let message =
                format!("a task has at most {ARGUMENTS_MAX} arguments; put them into a struct");
            return Err(syn::Error::new(extra.kind.span(), message));
        }
        let output = output(&function.sig.output)?;
        Ok(Self { parameters, arguments, output, asynchronous: function.sig.asyncness.is_some() })
    }
}

/// Refuses what a task's function cannot have: generics, `const`, `unsafe` and the like.
fn refuse_qualifiers(function: &ItemFn) -> syn::Result<()> {
    let signature = &function.sig;
    let refuse = |span: Span, message: &str| Err(syn::Error::new(span, message));
    // A `cfg` below the macro would remove the function and leave the task.
    if let Some(attribute) =
        function.attrs.iter().find(|attribute| attribute.path().is_ident("cfg"))
    {
        return refuse(
            attribute.span(),
            "write `#[cfg(..)]` above `#[task]`, so that it holds for the whole task",
        );
    }
    if let Some(parameter) = signature.generics.params.first() {
        return refuse(
            parameter.span(),
            "a task cannot be generic: a worker must know the types of its arguments",
        );
    }
    if let Some(clause) = &signature.generics.where_clause {
        return refuse(clause.span(), "a task cannot be generic and has no `where` clause");
    }
    if let Some(keyword) = &signature.constness {
        return refuse(keyword.span(), "a task cannot be `const`");
    }
    if let Safety::Unsafe(keyword) = &signature.safety {
        return refuse(keyword.span(), "a task cannot be `unsafe`");
    }
    if let Some(abi) = &signature.abi {
        return refuse(abi.span(), "a task cannot be `extern`");
    }
    if let Some(variadic) = &signature.variadic {
        return refuse(variadic.span(), "a task has a fixed number of arguments");
    }
    Ok(())
}

/// Reads a parameter that is an argument of the task.
fn argument(pattern: &Pat, kind: &Type) -> syn::Result<Argument> {
    if let Type::ImplTrait(_) = kind {
        return Err(syn::Error::new(
            kind.span(),
            "an argument needs a type that serde can read, not `impl Trait`",
        ));
    }
    // `mut title` has the name `title`; `(a, b)` has none.
    let name = match pattern {
        Pat::Ident(ident) => ident.ident.to_string().trim_start_matches("r#").to_owned(),
        _ => String::new(),
    };
    // By its name alone, like `Context` and `Data`: the macro sees no types.
    let optional = last_segment(kind).is_some_and(|segment| segment.ident == "Option");
    Ok(Argument { name, kind: Box::new(kind.clone()), optional })
}

/// Reads the return type.
fn output(output: &ReturnType) -> syn::Result<Output> {
    // A function without a return type returns `()`.
    let ReturnType::Type(_, kind) = output else {
        return Ok(Output { value: None, fallible: false });
    };
    if let Type::ImplTrait(_) = **kind {
        return Err(syn::Error::new(
            kind.span(),
            "a result needs a type that serde can write, not `impl Trait`",
        ));
    }
    let output = match last_segment(kind) {
        Some(segment) if segment.ident == "Result" => {
            let PathArguments::AngleBracketed(generics) = &segment.arguments else {
                return Err(syn::Error::new(
                    kind.span(),
                    "write the type of the result out, as in `Result<T, E>`",
                ));
            };
            // `std::io::Result<T>` has one parameter, `Result<T, E>` two. The first is the value.
            let value = generics.args.iter().find_map(|argument| match argument {
                GenericArgument::Type(value) => Some(Box::new(value.clone())),
                _ => None,
            });
            Output { value, fallible: true }
        }
        _ => Output { value: Some(kind.clone()), fallible: false },
    };
    match output.value.as_deref() {
        // Only a type that is written as a reference is found. A struct with a lifetime fails when
        // serde reads it.
        Some(Type::Reference(reference)) => {
            let message = "a result is read by another program and must be owned: \
                           return `String` and the like";
            Err(syn::Error::new(reference.span(), message))
        }
        _ => Ok(output),
    }
}

#[cfg(test)]
mod tests {
    use quote::ToTokens;

    use super::*;

    fn parse(text: &str) -> syn::Result<Signature> {
        Signature::parse(&syn::parse_str::<ItemFn>(text).expect("a function"))
    }

    #[test]
    fn the_context_comes_first_and_data_anywhere() {
        let signature = parse("fn f(c: &Context, title: String, pool: Data<Pool>, limit: u32) {}")
            .expect("a task");
        assert_eq!((signature.parameters.len(), signature.arguments.len()), (4, 2));
        assert!(matches!(
            signature.parameters[0],
            Parameter { given: Given::Context, borrowed: true }
        ));
        assert!(matches!(
            signature.parameters[2],
            Parameter { given: Given::Data(_), borrowed: false }
        ));
        assert!(parse("fn f(title: String, c: &Context) {}").is_err());
        assert!(parse("fn f(c: &mut Context) {}").is_err());
    }

    #[test]
    fn arguments_keep_their_names_and_options_may_be_left_out() {
        let signature = parse("fn f(mut title: String, (a, b): (u8, u8), limit: Option<u32>) {}")
            .expect("a task");
        let arguments: Vec<(&str, bool)> =
            signature.arguments.iter().map(|a| (a.name.as_str(), a.optional)).collect();
        assert_eq!(arguments, [("title", false), ("", false), ("limit", true)]);
        assert!(!signature.asynchronous);
    }

    #[test]
    fn the_value_of_a_result_is_the_output() {
        let output = |text: &str| {
            let output = parse(text).expect(text).output;
            (output.value.map(|value| value.to_token_stream().to_string()), output.fallible)
        };
        assert_eq!(output("fn f() {}"), (None, false));
        assert_eq!(output("fn f() -> u64 {}"), (Some("u64".to_owned()), false));
        assert_eq!(output("fn f() -> Result<u64, E> {}"), (Some("u64".to_owned()), true));
        assert_eq!(output("fn f() -> std::io::Result<()> {}"), (Some("()".to_owned()), true));
    }

    #[test]
    fn functions_that_cannot_be_tasks_are_refused_with_the_reason() {
        for (text, reason) in [
            ("fn f(self) {}", "no `self`"),
            ("fn f<T>(value: T) {}", "generic"),
            ("fn f<'a>(value: &'a str) {}", "generic"),
            ("unsafe fn f() {}", "unsafe"),
            ("const fn f() {}", "const"),
            ("#[cfg(unix)] fn f() {}", "above"),
            ("extern \"C\" fn f() {}", "extern"),
            ("fn f(title: &str) {}", "take `String`"),
            ("fn f(title: &[u8]) {}", "owned"),
            ("fn f(title: impl Into<String>) {}", "impl Trait"),
            ("fn f() -> impl Sized {}", "impl Trait"),
            ("fn f() -> Result {}", "Result<T, E>"),
            ("fn f() -> &'static str {}", "owned"),
            ("fn f() -> Result<&'static str, E> {}", "owned"),
        ] {
            let refusal = parse(text).err().expect(text).to_string();
            assert!(refusal.contains(reason), "{text}: {refusal}");
        }
        let many: Vec<String> = (0..17).map(|index| format!("a{index}: u8")).collect();
        assert!(parse(&format!("fn f({}) {{}}", many.join(", "))).is_err());
    }
}
