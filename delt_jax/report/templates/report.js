// Enlarges an image of the gallery beside its photo. The page says everything without it.
(() => {
  const dialog = document.querySelector("dialog");
  const cells = [...document.querySelectorAll(".gallery td[data-about]")];
  if (!dialog || !dialog.showModal || !cells.length) return;
  document.querySelector(".gallery").classList.add("zoomable");
  const [image, photo] = dialog.querySelectorAll("img");
  let current = 0;
  const show = (index) => {
    current = (index + cells.length) % cells.length;
    const [distilled, source] = cells[current].querySelectorAll("img");
    image.src = distilled.src;
    image.alt = distilled.alt;
    photo.parentElement.hidden = !source;
    if (source) { photo.src = source.src; photo.alt = source.alt; }
    dialog.querySelector("p").textContent = cells[current].dataset.about;
  };
  cells.forEach((cell, index) => cell.addEventListener("click", () => { show(index); dialog.showModal(); }));
  dialog.querySelector("[data-back]").addEventListener("click", () => show(current - 1));
  dialog.querySelector("[data-next]").addEventListener("click", () => show(current + 1));
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(current - 1);
    if (event.key === "ArrowRight") show(current + 1);
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
})();
