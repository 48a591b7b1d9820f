// Uploads what a page of another origin serves, with tus-js-client in Chromium.
import { chromium } from 'playwright-core'

const [executablePath, page, endpoint, metadata, protocol] = process.argv.slice(1)
const browser = await chromium.launch({
  executablePath,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
})
try {
  const tab = await browser.newPage()
  tab.on('console', (message) => console.log(message.text()))
  await tab.goto(page)
  await tab.evaluate(
    async ({ endpoint, metadata, protocol }) => {
      const fragment = await (await fetch('/fragment')).blob()
      await new Promise((resolve, reject) => {
        new tus.Upload(fragment, {
          endpoint,
          protocol,
          headers: { 'Upload-Metadata': metadata },
          chunkSize: 1_000_000,
          retryDelays: [100, 500, 1000, 2000, 2000, 2000, 2000, 2000, 2000, 2000],
          onChunkComplete: (_, taken) => console.log(`taken ${taken}`),
          onAfterResponse: (_, response) => {
            const receipt = response.getHeader('Bistro-Receipt')
            if (receipt) console.log(`receipt ${receipt}`)
          },
          onSuccess: resolve,
          onError: reject,
        }).start()
      })
      console.log('done')
    },
    { endpoint, metadata, protocol },
  )
} finally {
  await browser.close()
}
