//! Writes the code that replaces the function: a unit struct of the function's name, the function
//! as the method `run`, and the implementations of the two traits. The code names every item by its
//! full path, so that the user need not import anything.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, ItemFn, Type};

use crate::attributes::{Attributes, Target, Value, Written};
use crate::parameter::{Given, Parameter};
use crate::signature::Signature;

/// The code of the task.
pub(crate) fn expand(
    attributes: &Attributes,
    signature: &Signature,
    function: &ItemFn,
) -> TokenStream {
    let item = &function.sig.ident;
    let visibility = &function.vis;
    // The struct has the documentation, the method all other attributes of the function.
    let (shared, body_only) = split_attributes(&function.attrs);
    let task_name = attributes.name().map_or_else(|| plain_name(item), str::to_owned);
    let run = run_function(function, &body_only);
    let definition = definition(attributes, signature, item, &task_name);
    let handler = handler(signature, item);
    quote! {
        #(#shared)*
        #[allow(non_camel_case_types)]
        #[derive(Debug, Clone, Copy, Default)]
        #visibility struct #item;
        #run
        #definition
        #handler
    }
}

/// Splits the function's own attributes: documentation belongs to the struct, all others to the
/// body.
fn split_attributes(attributes: &[Attribute]) -> (Vec<&Attribute>, Vec<&Attribute>) {
    attributes.iter().partition(|attribute| {
        attribute.path().is_ident("doc") || attribute.path().is_ident("deprecated")
    })
}

/// The name of the function, without the `r#` of a raw identifier.
fn plain_name(item: &Ident) -> String {
    item.to_string().trim_start_matches("r#").to_owned()
}

/// The function itself, as a method of the struct.
fn run_function(function: &ItemFn, attributes: &[&Attribute]) -> TokenStream {
    let item = &function.sig.ident;
    let visibility = &function.vis;
    // Only the name changes, so that errors in the body keep their places.
    let mut signature = function.sig.clone();
    signature.ident = Ident::new("run", Span::call_site());
    let block = &function.block;
    quote! {
        impl #item {
            /// Runs the body of the task here and now, without a broker.
            #(#attributes)*
            #[allow(clippy::missing_errors_doc, clippy::unused_async)]
            #visibility #signature #block
        }
    }
}

/// The implementation of `TaskDefinition`.
fn definition(
    attributes: &Attributes,
    signature: &Signature,
    item: &Ident,
    task_name: &str,
) -> TokenStream {
    // A tuple with a comma behind a single type: `(String,)`.
    let kinds = signature.arguments.iter().map(|argument| &argument.kind);
    let output = match &signature.output.value {
        Some(value) => value.to_token_stream(),
        None => quote!(()),
    };
    let options = options(attributes);
    quote! {
        impl ::celeriac_worker::TaskDefinition for #item {
            type Args = (#(#kinds,)*);
            type Output = #output;

            fn name(&self) -> &str {
                #task_name
            }

            fn defaults(&self) -> ::celeriac_worker::TaskOptions {
                #options
            }
        }
    }
}

/// The definition's default options: an assignment for each written attribute.
fn options(attributes: &Attributes) -> TokenStream {
    // Unlike `options`, this name cannot be that of the user's function, and so of its item.
    let options = Ident::new("__options", Span::mixed_site());
    let mut assignments = Vec::new();
    let mut retry_policy = Vec::new();
    for Written { known, value } in &attributes.written {
        match known.target {
            Target::TaskName => {}
            Target::Option(field) => {
                let field = Ident::new(field, Span::call_site());
                let value = match value {
                    Value::Flag(flag) => flag.to_token_stream(),
                    value => some(&value_tokens(value)),
                };
                assignments.push(quote!(#options.#field = #value;));
            }
            Target::RetryPolicy(method) => {
                let method = Ident::new(method, Span::call_site());
                let value = value_tokens(value);
                retry_policy.push(quote!(.#method(#value)));
            }
        }
    }
    // Without any attribute of the policy it is left to the broker.
    if !retry_policy.is_empty() {
        let policy =
            some(&quote!(::celeriac_worker::expansion::RetryPolicy::new() #(#retry_policy)*));
        assignments.push(quote!(#options.retry = #policy;));
    }
    if assignments.is_empty() {
        return quote!(::celeriac_worker::TaskOptions::new());
    }
    quote! {
        let mut #options = ::celeriac_worker::TaskOptions::new();
        #(#assignments)*
        #options
    }
}

/// The value in a `Some`.
fn some(value: &TokenStream) -> TokenStream {
    quote!(::core::option::Option::Some(#value))
}

/// The value of an attribute as an expression.
fn value_tokens(value: &Value) -> TokenStream {
    match value {
        Value::Text(text) => text.to_token_stream(),
        Value::Number(number) => number.to_token_stream(),
        Value::Factor(factor) => factor.to_token_stream(),
        Value::Span(ms) => quote!(::core::time::Duration::from_millis(#ms)),
        Value::Flag(flag) => flag.to_token_stream(),
        Value::Variant { of, variant } => {
            let of = Ident::new(of, Span::call_site());
            let variant = Ident::new(variant, Span::call_site());
            quote!(::celeriac_worker::expansion::#of::#variant)
        }
    }
}

/// The implementation of `Handler`.
fn handler(signature: &Signature, item: &Ident) -> TokenStream {
    let kinds: Vec<_> = signature.arguments.iter().map(|argument| &argument.kind).collect();
    let names = signature.arguments.iter().map(|argument| &argument.name);
    let optional = signature.arguments.iter().map(|argument| argument.optional);
    // Names of their own, because a parameter may be a pattern and have none.
    let bindings: Vec<Ident> = (0..kinds.len())
        .map(|index| Ident::new(&format!("argument_{index}"), Span::mixed_site()))
        .collect();
    let Call { data_kinds, given } = call(signature, &bindings);
    let data_bindings: Vec<Ident> = data_bindings(data_kinds.len());
    // A function that takes a reference gets one to the value that the run owns.
    let call = quote!(Self::run(#(#given),*));
    let call = if signature.asynchronous { quote!(#call.await) } else { call };
    // The span of the type, so that a missing `Serialize` is reported where the type is written.
    let place = signature.output.value.as_ref().map_or_else(Span::call_site, Spanned::span);
    let outcome = match (&signature.output.value, signature.output.fallible) {
        (_, true) => quote_spanned!(place=> ::celeriac_worker::expansion::fallible_outcome(#call)),
        (None, false) => quote!({ #call; ::celeriac_worker::expansion::outcome(&()) }),
        (Some(_), false) => quote_spanned!(place=> ::celeriac_worker::expansion::outcome(&#call)),
    };
    // A plain function runs on a thread, an asynchronous one on the runtime.
    let body = if signature.asynchronous {
        quote!(::celeriac_worker::Run::future(async move { #outcome }))
    } else {
        quote!(::celeriac_worker::Run::blocking(move || #outcome))
    };
    let data = data_method(&data_kinds);
    quote! {
        impl ::celeriac_worker::Handler for #item {
            fn name(&self) -> &str {
                ::celeriac_worker::TaskDefinition::name(self)
            }

            fn queue(&self) -> ::core::option::Option<::std::string::String> {
                ::celeriac_worker::expansion::queue(self)
            }

            #data
            #[allow(unused_variables)]
            fn start(
                &self,
                context: ::celeriac_worker::Context,
                payload: ::celeriac_worker::Payload<'_>,
            ) -> ::core::result::Result<::celeriac_worker::Run, ::celeriac_worker::TaskFailure> {
                let (#(#bindings,)*) =
                    payload.arguments::<(#(#kinds,)*)>(&[#((#names, #optional)),*])?;
                #(let #data_bindings =
                    ::celeriac_worker::expansion::data::<#data_kinds>(&context)?;)*
                ::core::result::Result::Ok(#body)
            }
        }
    }
}

/// The call of the function.
struct Call<'a> {
    /// The types of the shared values that the function takes.
    data_kinds: Vec<&'a Type>,
    /// The expression for each parameter.
    given: Vec<TokenStream>,
}

/// Takes the function's parameters one after the other. The arguments have these names, in order.
fn call<'a>(signature: &'a Signature, arguments: &[Ident]) -> Call<'a> {
    let mut arguments = arguments.iter();
    let mut data_kinds = Vec::new();
    let mut given = Vec::new();
    for Parameter { given: source, borrowed } in &signature.parameters {
        let value = match source {
            Given::Context => quote!(context),
            Given::Argument => arguments.next().map(ToTokens::to_token_stream).unwrap_or_default(),
            Given::Data(kind) => {
                data_kinds.push(&**kind);
                data_bindings(data_kinds.len())
                    .pop()
                    .map(ToTokens::into_token_stream)
                    .unwrap_or_default()
            }
        };
        given.push(if *borrowed { quote!(&#value) } else { value });
    }
    Call { data_kinds, given }
}

/// The names of so many shared values.
fn data_bindings(count: usize) -> Vec<Ident> {
    (0..count).map(|index| Ident::new(&format!("data_{index}"), Span::mixed_site())).collect()
}

/// The method `data`, unless the function takes no shared value.
fn data_method(kinds: &[&Type]) -> Option<TokenStream> {
    (!kinds.is_empty()).then(|| {
        quote! {
            fn data(&self) -> ::std::vec::Vec<::celeriac_worker::DataType> {
                ::std::vec![#(::celeriac_worker::DataType::of::<#kinds>()),*]
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expansion as text, without the spaces that only token printing puts there.
    fn expansion(attributes: &str, function: &str) -> String {
        let attributes: Attributes = syn::parse_str(attributes).expect("attributes");
        let function: ItemFn = syn::parse_str(function).expect("a function");
        let signature = Signature::parse(&function).expect("a task");
        let tokens = expand(&attributes, &signature, &function);
        syn::parse2::<syn::File>(tokens.clone()).expect("the expansion is Rust");
        tokens.to_string().split_whitespace().collect()
    }

    #[test]
    fn the_struct_takes_name_visibility_and_documentation_of_the_function() {
        let text =
            expansion("", "/// Decodes.\npub(crate) async fn decode(title: String) -> u64 { 1 }");
        assert!(text.starts_with("#[doc=\"Decodes.\"]"), "{text}");
        assert!(text.contains("pub(crate)structdecode;"), "{text}");
        assert!(text.contains("pub(crate)asyncfnrun(title:String)->u64{1}"), "{text}");
        assert!(text.contains("typeArgs=(String,);typeOutput=u64;"), "{text}");
    }

    #[test]
    fn the_task_has_the_name_of_the_function_unless_told() {
        assert!(expansion("", "fn decode() {}").contains("{\"decode\"}"));
        assert!(
            expansion("name = \"songs.decode\"", "fn decode() {}").contains("{\"songs.decode\"}")
        );
    }

    #[test]
    fn only_what_was_written_is_set() {
        let text = expansion("queue = \"songs\", backoff = \"fixed\"", "fn decode() {}");
        assert!(
            text.contains("__options.queue=::core::option::Option::Some(\"songs\");"),
            "{text}"
        );
        assert!(text.contains("Backoff::Fixed"), "{text}");
        assert!(!text.contains("max_attempts"), "{text}");
    }

    #[test]
    fn blocking_and_asynchronous_functions_differ_in_the_run() {
        let text = expansion("", "fn decode() {}");
        assert!(text.contains("Run::blocking(move||") && !text.contains("await"), "{text}");
        let text = expansion("", "async fn decode(c: &Context) -> Result<(), E> { Ok(()) }");
        assert!(
            text.contains("Run::future(asyncmove{") && text.contains("run(&context).await"),
            "{text}"
        );
        assert!(text.contains("fallible_outcome"), "{text}");
    }

    #[test]
    fn data_stands_in_the_call_where_the_function_takes_it_and_not_among_the_arguments() {
        let text = expansion(
            "",
            "async fn decode(c: Context, pool: &Data<Pool>, title: String, k: Data<Keys>) {}",
        );
        assert!(text.contains("typeArgs=(String,);"), "{text}");
        assert!(text.contains("run(context,&data_0,argument_0,data_1).await"), "{text}");
        assert!(
            text.contains("DataType::of::<Pool>(),::celeriac_worker::DataType::of::<Keys>()"),
            "{text}"
        );
        assert!(!expansion("", "fn decode() {}").contains("DataType"));
    }

    #[test]
    fn names_of_the_parameters_are_kept_for_keyword_arguments() {
        let text = expansion("", "fn decode(title: String, limit: Option<u32>) {}");
        assert!(text.contains("&[(\"title\",false),(\"limit\",true)]"), "{text}");
    }
}
