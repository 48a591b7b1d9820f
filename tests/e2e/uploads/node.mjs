// Uploads one file with tus-js-client in Node; says on standard output what was taken.
import { createReadStream } from 'node:fs'
import * as tus from 'tus-js-client'

const [file, endpoint, metadata, protocol, storage] = process.argv.slice(1)
const upload = new tus.Upload(createReadStream(file), {
  endpoint,
  protocol,
  headers: { 'Upload-Metadata': metadata },
  chunkSize: 1_000_000,
  retryDelays: [100, 500, 1000, 2000, 2000, 2000, 2000, 2000, 2000, 2000],
  urlStorage: new tus.FileUrlStorage(storage),
  onChunkComplete: (_, taken) => console.log(`taken ${taken}`),
  onAfterResponse: (_, response) => {
    const receipt = response.getHeader('Bistro-Receipt')
    if (receipt) console.log(`receipt ${receipt}`)
  },
  onSuccess: () => console.log('done'),
  onError: (error) => {
    console.error(String(error))
    process.exitCode = 1
  },
})
const earlier = await upload.findPreviousUploads()
if (earlier.length > 0) upload.resumeFromPreviousUpload(earlier[0])
upload.start()
