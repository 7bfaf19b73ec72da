// Packs files with tar-stream, or extracts them: pack ARCHIVE FOLDER NAMES... | extract ARCHIVE FOLDER.
const tar = require('tar-stream'), fs = require('fs'), path = require('path')
const [mode, file, folder, ...names] = process.argv.slice(2)
if (mode === 'extract') {
  const extract = tar.extract()
  extract.on('entry', (header, stream, next) => {
    const to = path.join(folder, header.name)
    fs.mkdirSync(path.dirname(to), { recursive: true })
    stream.pipe(fs.createWriteStream(to)).on('finish', next)
  })
  fs.createReadStream(file).pipe(extract)
} else {
  const pack = tar.pack()
  for (const name of names) pack.entry({ name }, fs.readFileSync(path.join(folder, name)))
  pack.finalize()
  pack.pipe(fs.createWriteStream(file))
}
