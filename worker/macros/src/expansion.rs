//! The code that stands in place of the function: a unit struct of its name, the function as
//! `run`, and the two traits. It names everything by its full path, so that nothing needs to be
//! imported where the attribute is used.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, ItemFn, Type};

use crate::attributes::{Attributes, Backoff, Jitter};
use crate::parameter::{Given, Parameter};
use crate::signature::Signature;

/// Writes the task out.
pub(crate) fn expand(
    attributes: &Attributes,
    signature: &Signature,
    function: &ItemFn,
) -> TokenStream {
    let item = &function.sig.ident;
    let visibility = &function.vis;
    let (shared, body_only) = split_attributes(&function.attrs);
    let task_name = attributes.name.clone().unwrap_or_else(|| plain_name(item));
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

/// Documentation belongs to the item, all other attributes to the body.
fn split_attributes(attributes: &[Attribute]) -> (Vec<&Attribute>, Vec<&Attribute>) {
    attributes.iter().partition(|attribute| {
        attribute.path().is_ident("doc") || attribute.path().is_ident("deprecated")
    })
}

fn plain_name(item: &Ident) -> String {
    item.to_string().trim_start_matches("r#").to_owned()
}

fn run_function(function: &ItemFn, attributes: &[&Attribute]) -> TokenStream {
    let item = &function.sig.ident;
    let visibility = &function.vis;
    let mut signature = function.sig.clone();
    signature.ident = Ident::new("run", Span::call_site());
    let block = &function.block;
    quote! {
        impl #item {
            /// The body of the task, run here and now without a broker.
            #(#attributes)*
            #[allow(clippy::missing_errors_doc, clippy::unused_async)]
            #visibility #signature #block
        }
    }
}

fn definition(
    attributes: &Attributes,
    signature: &Signature,
    item: &Ident,
    task_name: &str,
) -> TokenStream {
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

fn options(attributes: &Attributes) -> TokenStream {
    let mut fields = Vec::new();
    let mut field = |name: &str, value: Option<TokenStream>| {
        let name = Ident::new(name, Span::call_site());
        fields.extend(value.map(|value| quote!(#name: ::core::option::Option::Some(#value))));
    };
    field("queue", attributes.queue.as_ref().map(ToTokens::to_token_stream));
    field("max_attempts", attributes.max_attempts.map(ToTokens::into_token_stream));
    field("retry_delay_ms", attributes.retry_delay_ms.map(ToTokens::into_token_stream));
    field("backoff", attributes.backoff.map(backoff));
    field("retry_factor", attributes.retry_factor.map(ToTokens::into_token_stream));
    field("retry_delay_max_ms", attributes.retry_delay_max_ms.map(ToTokens::into_token_stream));
    field("jitter", attributes.jitter.map(jitter));
    field("soft_time_limit_ms", attributes.soft_time_limit_ms.map(ToTokens::into_token_stream));
    field("time_limit_ms", attributes.time_limit_ms.map(ToTokens::into_token_stream));
    field("priority", attributes.priority.map(ToTokens::into_token_stream));
    field("expires_ms", attributes.expires_ms.map(ToTokens::into_token_stream));
    field("result_ttl_ms", attributes.result_ttl_ms.map(ToTokens::into_token_stream));
    field("max_deliveries", attributes.max_deliveries.map(ToTokens::into_token_stream));
    let early_ack = attributes.early_ack;
    quote! {
        ::celeriac_worker::expansion::Attributes {
            #(#fields,)*
            early_ack: #early_ack,
            ..::celeriac_worker::expansion::Attributes::NONE
        }
        .into_options()
    }
}

fn backoff(backoff: Backoff) -> TokenStream {
    let variant = Ident::new(&format!("{backoff:?}"), Span::call_site());
    quote!(::celeriac_worker::expansion::Backoff::#variant)
}

fn jitter(jitter: Jitter) -> TokenStream {
    let variant = Ident::new(&format!("{jitter:?}"), Span::call_site());
    quote!(::celeriac_worker::expansion::Jitter::#variant)
}

fn handler(signature: &Signature, item: &Ident) -> TokenStream {
    let kinds: Vec<_> = signature.arguments.iter().map(|argument| &argument.kind).collect();
    let names = signature.arguments.iter().map(|argument| &argument.name);
    let optional = signature.arguments.iter().map(|argument| argument.optional);
    let bindings: Vec<Ident> = (0..kinds.len())
        .map(|index| Ident::new(&format!("argument_{index}"), Span::mixed_site()))
        .collect();
    let (data_kinds, given) = given(signature, &bindings);
    let data_bindings: Vec<Ident> = data_bindings(data_kinds.len());
    let call = quote!(Self::run(#(#given),*));
    let call = if signature.asynchronous { quote!(#call.await) } else { call };
    // The type's own place, so that a missing `Serialize` is reported where the type is written.
    let place = signature.output.value.as_ref().map_or_else(Span::call_site, Spanned::span);
    let outcome = match (&signature.output.value, signature.output.fallible) {
        (_, true) => quote_spanned!(place=> ::celeriac_worker::expansion::fallible_outcome(#call)),
        (None, false) => quote!({ #call; ::celeriac_worker::expansion::outcome(&()) }),
        (Some(_), false) => quote_spanned!(place=> ::celeriac_worker::expansion::outcome(&#call)),
    };
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
                let (#(#bindings,)*) = payload.arguments::<(#(#kinds,)*)>(&[#((#names, #optional)),*])?;
                #(let #data_bindings = ::celeriac_worker::expansion::data::<#data_kinds>(&context)?;)*
                ::core::result::Result::Ok(#body)
            }
        }
    }
}

/// The types of the shared values that the function takes, and what stands in the call for each of
/// its parameters.
fn given<'a>(signature: &'a Signature, arguments: &[Ident]) -> (Vec<&'a Type>, Vec<TokenStream>) {
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
    (data_kinds, given)
}

fn data_bindings(count: usize) -> Vec<Ident> {
    (0..count).map(|index| Ident::new(&format!("data_{index}"), Span::mixed_site())).collect()
}

/// Only where there is something to say.
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
        assert!(text.contains("queue:::core::option::Option::Some(\"songs\")"), "{text}");
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
