//! Writes GGUF files that need not be true.

/// A file under construction; nothing in it is checked.
pub(super) struct Writer {
    pub(super) magic: [u8; 4],
    pub(super) version: u32,
    pub(super) n_tensors: Option<u64>,
    pub(super) n_keys: Option<u64>,
    keys: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    alignment: usize,
    data: Vec<u8>,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            n_tensors: None,
            n_keys: None,
            keys: Vec::new(),
            tensors: Vec::new(),
            alignment: 32,
            data: vec![0; 64],
        }
    }

    /// A metadata key with its value's type and bytes.
    pub(super) fn key(mut self, name: &str, kind: u32, value: &[u8]) -> Self {
        self.keys.push([&text(name), &kind.to_le_bytes()[..], value].concat());
        self
    }

    /// A key's bytes as they are.
    pub(super) fn raw_key(mut self, bytes: &[u8]) -> Self {
        self.keys.push(bytes.to_vec());
        self
    }

    /// A tensor's entry; `dims` fastest first, as in the file.
    pub(super) fn tensor(mut self, name: &str, dims: &[u64], kind: u32, offset: u64) -> Self {
        let mut entry = text(name);
        entry.extend((dims.len() as u32).to_le_bytes());
        entry.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
        entry.extend(kind.to_le_bytes());
        entry.extend(offset.to_le_bytes());
        self.tensors.push(entry);
        self
    }

    /// Sets the bytes of tensor data.
    pub(super) fn data(mut self, len: usize) -> Self {
        self.data = vec![0; len];
        self
    }

    /// The alignment to pad to, whatever the metadata say.
    pub(super) fn padded_to(mut self, alignment: usize) -> Self {
        self.alignment = alignment;
        self
    }

    pub(super) fn finish(self) -> Vec<u8> {
        let mut file = self.magic.to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend(self.n_tensors.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        file.extend(self.n_keys.unwrap_or(self.keys.len() as u64).to_le_bytes());
        file.extend(self.keys.concat());
        file.extend(self.tensors.concat());
        file.resize(file.len().next_multiple_of(self.alignment), 0);
        file.extend(self.data);
        file
    }
}

/// A string as the format stores it.
pub(super) fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// An array's bytes: element type, count, elements.
pub(super) fn array(kind: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes(), elements].concat()
}
