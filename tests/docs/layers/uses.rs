//! Which module of a crate uses which. Every path in the code is read, wherever it stands: in a `use`, in an expression, in
//! the arguments of a macro or an attribute. Code that is compiled for tests only is left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::{
    Attribute, ImplItem, Item, ItemMod, ItemUse, Meta, UseTree,
    visit::{self, Visit},
};

/// A module, as its path from the top of the crate: `["sensor", "pins"]`.
pub(crate) type Module = Vec<String>;

/// Gives the text of a file by its path.
pub(crate) type Files<'a> = dyn Fn(&Path) -> Option<String> + 'a;

/// One module uses something of another.
#[derive(Clone, Debug)]
pub(crate) struct Use {
    pub(crate) by: Module,
    pub(crate) of: Target,
    pub(crate) file: PathBuf,
    /// Line, counted from 1.
    pub(crate) line: usize,
}

/// Where a path leads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    /// A module of this crate, or something in it.
    Here(Module),
    /// Another crate, or a name that the language brings.
    Elsewhere(String),
}

/// All modules of a crate.
pub(crate) struct Crate {
    name: String,
    modules: BTreeMap<Module, Source>,
}

/// Names that one module's code uses.
#[derive(Default)]
struct Source {
    file: PathBuf,
    /// Paths as they are written, with their lines.
    paths: Vec<(Vec<String>, usize)>,
    /// Imported names, with the paths that they stand for.
    names: BTreeMap<String, Vec<String>>,
}

impl Crate {
    /// Reads the crate by its files, which `text` gives by their paths below `src/`: none where there is no such file. A
    /// library's `main.rs` is taken for a module of it.
    pub(crate) fn read(name: &str, text: &Files<'_>) -> Self {
        let mut all = Self { name: name.replace('-', "_"), modules: BTreeMap::new() };
        let roots: Vec<_> =
            ["lib.rs", "main.rs"].into_iter().filter(|root| text(Path::new(root)).is_some()).collect();
        for (place, root) in roots.into_iter().enumerate() {
            let module = if place == 0 { Module::new() } else { vec!["main".to_owned()] };
            all.read_file(&Place { file: root.into(), directory: PathBuf::new(), module }, text);
        }
        all
    }

    /// The modules directly below this one.
    pub(crate) fn children(&self, of: &[String]) -> BTreeSet<&str> {
        let below =
            self.modules.keys().filter(|module| module.len() == of.len() + 1 && module.starts_with(of));
        below.filter_map(|module| module.last()).map(String::as_str).collect()
    }

    /// All modules; the first is the crate itself.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &Module> {
        self.modules.keys()
    }

    /// Everything that is used, by file and line.
    pub(crate) fn uses(&self) -> Vec<Use> {
        let mut uses = Vec::new();
        for (module, source) in &self.modules {
            for (path, line) in &source.paths {
                for of in self.targets(module, path) {
                    uses.push(Use { by: module.clone(), of, file: source.file.clone(), line: *line });
                }
            }
        }
        uses
    }

    /// Where a path leads that is written in a module: to what it names, and to what that stands for if it was
    /// imported there from elsewhere.
    fn targets(&self, from: &[String], path: &[String]) -> Vec<Target> {
        let mut targets = Vec::new();
        let (mut from, mut path) = (from.to_vec(), path.to_vec());
        // Names that stand for each other in a circle do not compile; no chain is as long as this.
        for _ in 0..16 {
            let Some(full) = self.full(&from, &path) else {
                targets.push(Target::Elsewhere(path[0].clone()));
                break;
            };
            let depth = (0..=full.len()).rev().find(|depth| self.modules.contains_key(&full[..*depth]));
            let (module, rest) = full.split_at(depth.unwrap_or(0));
            targets.push(Target::Here(module.to_vec()));
            let onward = rest.first().and_then(|name| Some((name, self.modules[module].names.get(name)?)));
            let Some((_, stands_for)) = onward else {
                break;
            };
            path = stands_for.iter().chain(&rest[1..]).cloned().collect();
            from = module.to_vec();
        }
        targets
    }

    /// A path from the top of the crate. None: it leads out of it.
    fn full(&self, from: &[String], path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let up = from.len().saturating_sub(1);
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([from, rest].concat()),
            "super" => {
                let above = &from[..up];
                if rest.first().is_some_and(|next| next == "super") {
                    return self.full(above, rest);
                }
                Some([above, rest].concat())
            }
            name if name == self.name => Some(rest.to_vec()),
            name => {
                let is_imported = self.modules[from].names.contains_key(name);
                let is_child = self.modules.contains_key(&[from, path.get(..1)?].concat());
                (is_imported || is_child).then(|| [from, path].concat())
            }
        }
    }

    fn read_file(&mut self, place: &Place, text: &Files<'_>) {
        let file = place.file.display();
        let code = text(&place.file).unwrap_or_else(|| panic!("{file}: there is no such file"));
        let parsed = syn::parse_file(&code).unwrap_or_else(|error| panic!("{file}: {error}"));
        self.read_items(&parsed.items, place, text);
    }

    fn read_items(&mut self, items: &[Item], place: &Place, text: &Files<'_>) {
        let source = Source { file: place.file.clone(), ..Source::default() };
        let mut reader = Reader { source, within: Vec::new() };
        for item in items {
            reader.visit_item(item);
        }
        let Reader { source, within } = reader;
        self.modules.insert(place.module.clone(), source);
        for inner in within {
            let mut below = place.below(inner.ident.to_string());
            match &inner.content {
                Some((_, items)) => self.read_items(items, &below, text),
                None => {
                    let beside = below.directory.with_extension("rs");
                    let is_beside = text(&beside).is_some();
                    below.file = if is_beside { beside } else { below.directory.join("mod.rs") };
                    self.read_file(&below, text);
                }
            }
        }
    }
}

/// Where a module's code stands.
struct Place {
    file: PathBuf,
    /// Where the files of the modules within it are.
    directory: PathBuf,
    module: Module,
}

impl Place {
    /// A module within this one, in the same file.
    fn below(&self, name: String) -> Self {
        let directory = self.directory.join(&name);
        let module = self.module.iter().cloned().chain([name]).collect();
        Self { file: self.file.clone(), directory, module }
    }
}

struct Reader<'ast> {
    source: Source,
    /// Modules that are declared here.
    within: Vec<&'ast ItemMod>,
}

impl Reader<'_> {
    /// `before` stands before all of the tree, and ends in this line.
    fn import(&mut self, tree: &UseTree, before: &[String], line: usize) {
        let mut path = before.to_vec();
        match tree {
            UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.import(&part.tree, &path, line_of(&part.ident));
            }
            UseTree::Name(name) => {
                if name.ident != "self" {
                    path.push(name.ident.to_string());
                }
                self.imported(path.last().cloned(), path, line_of(&name.ident));
            }
            UseTree::Rename(rename) => {
                if rename.ident != "self" {
                    path.push(rename.ident.to_string());
                }
                self.imported(Some(rename.rename.to_string()), path, line_of(&rename.ident));
            }
            UseTree::Glob(_) => self.imported(None, path, line),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(tree, before, line);
                }
            }
        }
    }

    fn imported(&mut self, name: Option<String>, path: Vec<String>, line: usize) {
        // A crate's own name stands for itself.
        if let Some(name) = name.filter(|name| path != [name.as_str()]) {
            self.source.names.insert(name, path.clone());
        }
        self.source.paths.push((path, line));
    }

    /// Paths in the arguments of a macro or an attribute, which are no more than words and signs.
    fn read_tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut colons, mut line) = (Vec::new(), 0, 0);
        for token in tokens {
            match token {
                TokenTree::Ident(word) => {
                    if colons != 2 {
                        self.end_path(&mut path, line);
                    }
                    line = line_of(&word);
                    path.push(word.to_string());
                    colons = 0;
                }
                TokenTree::Punct(sign) if sign.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.end_path(&mut path, line);
                    self.read_tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => self.end_path(&mut path, line),
            }
        }
        self.end_path(&mut path, line);
    }

    fn end_path(&mut self, path: &mut Vec<String>, line: usize) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.source.paths.push((path, line));
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'ast> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let is_left_out = matches!(item, ImplItem::Fn(function) if is_for_tests(&function.attrs));
        if !is_left_out {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.within.push(item);
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.import(&item.tree, &[], 0);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words: Vec<_> = path.segments.iter().map(|part| &part.ident).collect();
        // One word alone is a name of this module, which its import has named.
        if let [first, _, ..] = words.as_slice() {
            let line = line_of(first);
            self.source.paths.push((words.iter().map(ToString::to_string).collect(), line));
        }
        visit::visit_path(self, path);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        visit::visit_attribute(self, attribute);
        if let Meta::List(list) = &attribute.meta {
            self.read_tokens(list.tokens.clone());
        }
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        visit::visit_macro(self, call);
        self.read_tokens(call.tokens.clone());
    }
}

/// Counted from 1.
fn line_of(word: &Ident) -> usize {
    word.span().start().line
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}
